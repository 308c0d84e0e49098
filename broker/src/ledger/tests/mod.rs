//! The ledger's promises, tested on a virtual clock, with simulated hosts, on every store. [`faults`] has those that are
//! about a disk that fails.

/// Makes a test of each function for each store, such as `queues::a_rate_lets_a_burst_go_and_then_one_at_a_time::fjall`.
/// A function that is not listed is dead code, which the lints notice.
macro_rules! on_every_store {
    ($($test:ident),+ $(,)?) => {
        $(mod $test { on_every_store!(@ $test on memory fjall); })+
    };
    (@ $test:ident on $($store:ident)+) => {
        $(#[test] fn $store() { super::$test(crate::ledger::tests::stores::$store); })+
    };
}

mod breakers;
mod dead_letters;
mod faults;
mod finished;
mod hosts;
mod keyvalue;
mod modules;
mod overload;
mod queues;
mod quotas;
mod recovery;
mod removal;
mod retention;
mod sim;
mod stores;
mod tasks;
mod webhooks;
mod window;

/// A task of a function.
pub(super) fn spec_of(module: &str, function: &str) -> tq_core::task::Spec {
    tq_core::task::Spec {
        module: module.to_owned(),
        function: function.to_owned(),
        ..sim::spec()
    }
}
