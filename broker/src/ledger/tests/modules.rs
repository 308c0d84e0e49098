//! Versions of modules go when nobody needs them, and no task is ever left without its own.

use std::sync::Arc;
use std::time::Duration;

use tq_core::outcome::Outcome;
use tq_core::task::Spec;
use tq_core::{Digest, Grants, TaskId};

use super::sim::{MODULE, Sim, TENANT, module, spec, submission};
use super::stores::NewStore;
use crate::ledger::{Doomed, Refused, RetentionChange, read};
use crate::modules::registry::Unknown;
use crate::store::{Direction, Space};
use crate::tables::key;

on_every_store![
    version_goes_when_it_is_deleted_and_no_task_needs_it,
    deleted_module_takes_no_task_and_can_be_deployed_anew,
    what_comes_in_the_same_step_counts,
    number_of_a_deleted_version_is_not_given_again,
    version_that_was_current_lately_stays,
    versions_that_nobody_uses_go_after_their_time,
    tasks_have_the_grants_of_their_own_version,
];

const HOUR: Duration = Duration::from_secs(3600);

/// The module's versions that are there.
fn versions(sim: &Sim) -> Vec<u32> {
    let registry = read(&sim.ledger().shared.registry);
    let versions = registry.versions(TENANT, "m");
    versions.map_or_else(|_| Vec::new(), |of| of.all.keys().copied().collect())
}

fn digest(version: u32) -> Digest {
    match version {
        1 => MODULE,
        other => Digest([u8::try_from(other).expect("a few versions"); 32]),
    }
}

fn of_version(version: u32) -> Spec {
    Spec {
        version,
        digest: digest(version),
        ..spec()
    }
}

/// Deploys further versions, up to this one.
fn deploy_to(sim: &mut Sim, last: u32) {
    let next = versions(sim).last().map_or(1, |last| last + 1);
    for version in next..=last {
        sim.deploy(digest(version));
    }
}

fn in_use(name: &str, tasks: u64) -> Result<usize, Refused> {
    let name = name.to_owned();
    Err(Refused::ModuleInUse { name, tasks })
}

/// Has a task of the current version end.
fn ended(sim: &mut Sim, spec: Spec, outcome: Outcome) -> TaskId {
    let id = sim.submit(spec);
    let epoch = sim.hosts["a"].only();
    sim.finish("a", epoch, outcome);
    sim.settle();
    id
}

fn version_goes_when_it_is_deleted_and_no_task_needs_it(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let dead = ended(&mut sim, spec(), Outcome::FatalError);
    deploy_to(&mut sim, 3);
    assert_eq!(sim.delete_module(1), in_use("m@1", 1));
    assert_eq!(sim.delete_module(0), in_use("m", 1));
    let current = Refused::CurrentVersion {
        name: "m".to_owned(),
        version: 3,
    };
    assert_eq!(sim.delete_module(3), Err(current));
    assert!(matches!(
        sim.delete_module(7),
        Err(Refused::Unknown(Unknown::Version { .. }))
    ));
    assert_eq!(sim.delete_module(2), Ok(1));
    // Redriven on the current version, it needs the one of before no longer.
    sim.hosts
        .get_mut("a")
        .expect("it is there")
        .ready
        .insert(digest(3));
    sim.redrive(dead).expect("it is dead");
    sim.restart();
    assert_eq!(sim.delete_module(1), Ok(1));
    assert_eq!(sim.delete_module(0), in_use("m", 1));
    assert_eq!(versions(&sim), [3]);
    let told = sim.ledger().shared.unnamed.take(usize::MAX);
    assert_eq!(
        told,
        [digest(1)],
        "what was told before the restart is for the next sweep"
    );
}

fn deleted_module_takes_no_task_and_can_be_deployed_anew(store: NewStore) {
    let mut sim = Sim::new(store);
    deploy_to(&mut sim, 2);
    assert_eq!(sim.delete_module(0), Ok(2));
    let submit = |sim: &mut Sim, spec| {
        let submitted = sim.submit_all(vec![submission(spec, 1)]);
        submitted.map(|tasks| tasks.len())
    };
    let unknown = submit(&mut sim, of_version(2));
    assert!(
        matches!(unknown, Err(Refused::Unknown(Unknown::Module { .. }))),
        "{unknown:?}"
    );
    sim.restart();
    assert_eq!(versions(&sim), [0; 0]);
    sim.deploy(digest(9));
    assert_eq!(versions(&sim), [1]);
    // One that was read before the module was deleted names other bytes under the same number.
    let replaced = submit(&mut sim, spec());
    assert_eq!(replaced, Err(Refused::Replaced("m@1".to_owned())));
    let anew = Spec {
        digest: digest(9),
        ..spec()
    };
    assert_eq!(submit(&mut sim, anew), Ok(1));
}

fn what_comes_in_the_same_step_counts(store: NewStore) {
    let mut sim = Sim::new(store);
    deploy_to(&mut sim, 2);
    let mut submitted = sim.send_submit(vec![submission(spec(), 1)]);
    assert_eq!(sim.delete_module(1), in_use("m@1", 1));
    let id = submitted
        .try_recv()
        .expect("it is answered")
        .expect("it is taken")[0]
        .id;
    sim.cancel(id).expect("it waits");
    let mut deleted = sim.send_delete(Doomed::One(id));
    assert_eq!(sim.delete_module(1), Ok(1));
    assert_eq!(deleted.try_recv().expect("it is answered"), Ok(1));
    let uses = key::all_module_uses();
    let store = &sim.ledger().store;
    let rows = store.scan(Space::Meta, &uses, &[], Direction::Ascending, 1);
    assert_eq!(rows.expect("the store can be read"), [], "nothing is left");
}

fn tasks_have_the_grants_of_their_own_version(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 9);
    let granting = |version, names: &[&str]| {
        let mut module = module(digest(version));
        let env = names
            .iter()
            .map(|name| ((*name).to_owned(), "1".to_owned()));
        module.functions[0].grants = Arc::new(Grants {
            env: env.collect(),
            ..Grants::default()
        });
        module
    };
    let before = sim.submit(of_version(1));
    let denied = sim.deploy_as(granting(2, &["A"]), true);
    let grants = vec!["env A".to_owned()];
    let name = "m".to_owned();
    assert_eq!(denied, Err(Refused::NewGrants { name, grants }));
    assert_eq!(versions(&sim), [1]);
    let deployed = sim.deploy_as(granting(2, &["A"]), false);
    let deployed = deployed.expect("it is taken");
    assert_eq!(deployed.newly_granted, ["env A"]);
    // What it has already is not new.
    let deployed = sim.deploy_as(granting(3, &["A"]), true);
    assert_eq!(deployed.map(|deployed| deployed.version), Ok(3));
    sim.host_mut("a").ready.insert(digest(3));
    sim.restart();
    sim.hello("a");
    let after = sim.submit(of_version(3));
    sim.settle();
    for (id, expected) in [(before, None), (after, Some("A"))] {
        let mut held = sim.hosts["a"].held.values();
        let held = held.find(|held| held.id == id).expect("it runs");
        let env = held
            .grants
            .as_ref()
            .and_then(|grants| grants.env.keys().next());
        assert_eq!(env.map(String::as_str), expected);
    }
}

fn number_of_a_deleted_version_is_not_given_again(store: NewStore) {
    let mut sim = Sim::new(store);
    deploy_to(&mut sim, 3);
    sim.rollback(2);
    assert_eq!(sim.delete_module(3), Ok(1));
    sim.restart();
    sim.deploy(digest(9));
    assert_eq!(versions(&sim), [1, 2, 4]);
}

fn version_that_was_current_lately_stays(store: NewStore) {
    let mut sim = Sim::new(store);
    let keep = RetentionChange {
        modules: Some(2 * HOUR),
        ..RetentionChange::default()
    };
    sim.keep(Some(keep)).expect("it is in range");
    sim.skip(5 * HOUR);
    deploy_to(&mut sim, 4);
    sim.restart();
    sim.skip(HOUR);
    sim.settle();
    assert_eq!(versions(&sim), [1, 2, 3, 4], "1 was current an hour ago");
    sim.skip(HOUR);
    sim.settle();
    sim.settle();
    assert_eq!(versions(&sim), [3, 4]);
}

fn versions_that_nobody_uses_go_after_their_time(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let dead = ended(&mut sim, spec(), Outcome::FatalError);
    deploy_to(&mut sim, 5);
    let keep = |modules| RetentionChange {
        modules: Some(modules),
        ..RetentionChange::default()
    };
    sim.keep(Some(keep(2 * HOUR))).expect("it is in range");
    sim.skip(HOUR);
    sim.settle();
    assert_eq!(versions(&sim), [1, 2, 3, 4, 5]);
    // 1 has a dead task, 4 is what a rollback goes to, 5 is current.
    sim.skip(HOUR);
    sim.settle();
    sim.settle();
    assert_eq!(versions(&sim), [1, 4, 5]);
    sim.delete(Doomed::One(dead)).expect("it is dead");
    sim.skip(HOUR);
    sim.settle();
    sim.settle();
    assert_eq!(versions(&sim), [4, 5]);
    sim.restart();
    assert_eq!(versions(&sim), [4, 5]);
    // A shorter time is looked at soon.
    deploy_to(&mut sim, 7);
    sim.skip(Duration::from_secs(10));
    sim.keep(Some(keep(Duration::from_secs(5))))
        .expect("it is in range");
    assert_eq!(versions(&sim), [6, 7]);
}
