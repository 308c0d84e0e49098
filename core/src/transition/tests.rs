use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::invariants;
use crate::limits::{LOSSES_MAX, STRIKES_MAX};
use crate::outcome::Usage;
use crate::task::{DataRef, Failure, Spec};
use crate::{Digest, Limits, Placement, Priority, RetryPolicy, TaskId};

fn spec() -> Spec {
    Spec {
        namespace: "default".into(),
        module: "greet".into(),
        version: 1,
        digest: Digest([7; 32]),
        function: "hello".into(),
        payload: DataRef::Row { len: 3 },
        content_type: String::new(),
        arguments: Vec::new(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy {
            max_attempts: 3,
            backoff: Duration::from_millis(100),
            cap: Duration::from_secs(1),
        },
        priority: Priority::DEFAULT,
        placement: Placement::default(),
        run_at: None,
        deadline: None,
        result_ttl: None,
        idempotency_key: String::new(),
        unique_key: String::new(),
        traceparent: String::new(),
        submitted_at: Timestamp(1),
        labels: crate::label::Labels::new(),
        redriven_from: None,
    }
}

fn ready(spec: Spec) -> Task {
    submit(TaskId([1; 16]), Arc::new(spec), 0, Timestamp(1))
        .expect("it can be submitted")
        .next
}

fn lease(epoch: u64) -> Lease {
    Lease {
        epoch: Epoch(epoch),
        host: "a".into(),
        started_at: Timestamp(2),
    }
}

fn running(epoch: u64) -> Task {
    claim(&ready(spec()), lease(epoch))
        .expect("it is ready")
        .next
}

fn ended(epoch: u64, outcome: Outcome) -> Report {
    let result = (outcome == Outcome::Succeeded).then_some(DataRef::Row { len: 2 });
    let failure = (outcome != Outcome::Succeeded).then(|| Failure {
        message: "why".into(),
        backtrace: String::new(),
    });
    Report {
        epoch: Epoch(epoch),
        outcome,
        result,
        failure,
        retry_after: None,
        usage: Usage::default(),
    }
}

const NOW: Timestamp = Timestamp(1000);

#[track_caller]
fn check(got: Result<Transition, Rejected>, expected: Result<&str, Rejected>) {
    assert_eq!(got.map(|transition| transition.next.state.name()), expected);
}

#[test]
fn each_outcome_leads_where_its_class_says() {
    for outcome in Outcome::ALL {
        let expected = match outcome.class() {
            crate::outcome::Class::Success => "succeeded",
            crate::outcome::Class::Retryable => "scheduled",
            crate::outcome::Class::Permanent => "dead",
            crate::outcome::Class::Stopped
            | crate::outcome::Class::HostLost
            | crate::outcome::Class::Crash => "ready",
        };
        check(report(&running(5), &ended(5, *outcome), NOW), Ok(expected));
    }
}

#[test]
fn late_report_does_not_overwrite_a_newer_attempt() {
    let lost = lose(&running(5), Epoch(5), NOW).expect("it runs").next;
    let again = claim(&lost, lease(6)).expect("it is ready").next;
    check(
        report(&again, &ended(5, Outcome::Succeeded), NOW),
        Err(Rejected::Fenced { offered: Epoch(5) }),
    );
    check(
        report(&again, &ended(6, Outcome::Succeeded), NOW),
        Ok("succeeded"),
    );
}

#[test]
fn repeated_report_gets_its_first_answer_and_changes_nothing() {
    for outcome in [Outcome::Succeeded, Outcome::Trap, Outcome::FuelExhausted] {
        let first = report(&running(5), &ended(5, outcome), NOW)
            .expect("it runs")
            .next;
        let second =
            report(&first, &ended(5, outcome), Timestamp(2000)).expect("it was settled before");
        assert_eq!(
            second,
            Transition {
                next: first,
                effect: Effect::None
            }
        );
    }
}

#[test]
fn attempts_that_are_handed_back_count_against_nobody() {
    let mut task = ready(spec());
    for epoch in 1..=2 * u64::from(LOSSES_MAX) {
        task = claim(&task, lease(epoch)).expect("it is ready").next;
        // By the broker, and by the host itself.
        let handed_back = match epoch % 2 {
            0 => hand_back(&task, Epoch(epoch), NOW),
            _ => report(&task, &ended(epoch, Outcome::HostDrained), NOW),
        };
        task = handed_back.expect("it runs").next;
        assert_eq!(
            (task.state.name(), task.losses, task.failures),
            ("ready", 0, 0)
        );
        check(
            report(&task, &ended(epoch + 100, Outcome::Succeeded), NOW),
            Err(Rejected::Fenced {
                offered: Epoch(epoch + 100),
            }),
        );
    }
    assert_eq!(task.outcome(), Some(Outcome::HostDrained));
    let told = cancel(&claim(&task, lease(1_000)).expect("it is ready").next, NOW);
    let told = told.expect("it runs").next;
    check(hand_back(&told, Epoch(1_000), NOW), Ok("cancelled"));
}

#[test]
fn epoch_of_a_claim_must_rise() {
    let lost = lose(&running(5), Epoch(5), NOW).expect("it runs").next;
    check(
        claim(&lost, lease(5)),
        Err(Rejected::Fenced { offered: Epoch(5) }),
    );
}

#[test]
fn attempts_are_used_up_and_a_redrive_begins_anew() {
    let mut task = ready(spec());
    for epoch in 1..=3 {
        task = claim(&task, lease(epoch)).expect("it is ready").next;
        task = report(&task, &ended(epoch, Outcome::Trap), NOW)
            .expect("it runs")
            .next;
        if let State::Scheduled { run_at } = task.state {
            task = wake(&task, run_at).expect("its time has come").next;
        }
    }
    assert_eq!(
        (task.state.name(), task.failures, task.attempts.len()),
        ("dead", 3, 3)
    );
    let again = redrive(&task, Spec::clone(&task.spec), NOW)
        .expect("it is dead")
        .next;
    assert_eq!(
        (
            again.state.name(),
            again.round,
            again.failures,
            again.attempts.len()
        ),
        ("ready", 2, 0, 3)
    );
    check(
        redrive(&again, spec(), NOW),
        Err(Rejected::WrongState {
            state: "ready",
            expected: "dead, cancelled or expired",
        }),
    );
}

#[test]
fn host_losses_do_not_use_up_attempts_but_are_bounded() {
    let mut task = ready(spec());
    for epoch in 1..=u64::from(LOSSES_MAX) {
        assert_eq!((task.state.name(), task.failures), ("ready", 0));
        task = lose(
            &claim(&task, lease(epoch)).expect("it is ready").next,
            Epoch(epoch),
            NOW,
        )
        .expect("it runs")
        .next;
    }
    assert_eq!(
        (task.state.name(), task.outcome()),
        ("dead", Some(Outcome::HostLost))
    );
}

/// What a crash of the runner makes of a task that begins its attempt `epoch`.
fn crash(task: &Task, epoch: u64) -> Task {
    let running = claim(task, lease(epoch)).expect("it is ready").next;
    let crashed = report(&running, &ended(epoch, Outcome::RunnerCrashed), NOW);
    crashed.expect("it runs").next
}

#[test]
fn task_that_crashes_its_runner_alone_dies_after_three_strikes() {
    let mut task = ready(spec());
    for (epoch, strikes) in (1..).zip(0..STRIKES_MAX) {
        assert_eq!((task.state.name(), task.failures), ("ready", 0));
        task = crash(&task, epoch);
        assert_eq!(task.strikes, Some(strikes));
    }
    // Whoever ran beside it ends well, and is not suspected after its next redrive either.
    let alone = claim(&task, lease(10)).expect("it is ready").next;
    check(
        report(&alone, &ended(10, Outcome::Succeeded), NOW),
        Ok("succeeded"),
    );
    let dead = crash(&task, 11);
    let message = &dead
        .attempts
        .last()
        .unwrap()
        .failure
        .as_ref()
        .unwrap()
        .message;
    assert!(
        message.ends_with("which is the limit; the last time: why"),
        "{message}"
    );
    assert_eq!(
        (dead.state.name(), dead.outcome()),
        ("dead", Some(Outcome::RunnerCrashed))
    );
    let again = redrive(&dead, spec(), NOW).expect("it is dead").next;
    assert!(!again.is_suspect());
}

#[test]
fn checkpoint_clears_a_suspect_and_yet_crashes_are_bounded() {
    let mut task = ready(spec());
    for epoch in 1.. {
        task = crash(&task, epoch);
        if task.state.is_terminal() {
            break;
        }
        task.gets_on();
    }
    assert_eq!((task.losses, task.strikes), (LOSSES_MAX, Some(0)));
}

#[test]
fn cancel_of_a_running_task_yields_to_a_success_that_comes_first() {
    let stopping = cancel(&running(5), NOW).expect("it runs");
    assert_eq!(
        stopping.effect,
        Effect::StopAttempt {
            host: "a".into(),
            epoch: Epoch(5),
            stop: Stop::Cancel
        }
    );
    check(
        report(&stopping.next, &ended(5, Outcome::Succeeded), NOW),
        Ok("succeeded"),
    );
    for outcome in Outcome::ALL
        .iter()
        .filter(|outcome| **outcome != Outcome::Succeeded)
    {
        check(
            report(&stopping.next, &ended(5, *outcome), NOW),
            Ok("cancelled"),
        );
    }
    check(lose(&stopping.next, Epoch(5), NOW), Ok("cancelled"));
}

#[test]
fn deadline_ends_what_waits_and_stops_what_runs() {
    let spec = Spec {
        deadline: Some(NOW),
        ..spec()
    };
    let waiting = ready(spec);
    check(
        expire(&waiting, Timestamp(999)),
        Err(Rejected::TooEarly { at: 1000 }),
    );
    check(expire(&waiting, NOW), Ok("expired"));
    let stopping = expire(&claim(&waiting, lease(5)).expect("it is ready").next, NOW)
        .expect("it runs")
        .next;
    check(
        report(&stopping, &ended(5, Outcome::DeadlineExceeded), NOW),
        Ok("expired"),
    );
    let late = submit(TaskId([1; 16]), Arc::clone(&waiting.spec), 0, NOW);
    assert_eq!(
        late.map(|_| ()),
        Err(Rejected::DeadlinePassed {
            deadline: 1000,
            now: 1000
        })
    );
}

#[test]
fn blocked_task_runs_after_its_last_dependency() {
    let blocked = submit(TaskId([1; 16]), Arc::new(spec()), 2, NOW)
        .expect("it can be submitted")
        .next;
    let one_left = resolve(&blocked, Dependency::Met, NOW)
        .expect("it is blocked")
        .next;
    check(Ok(Transition::unchanged(&one_left)), Ok("blocked"));
    check(resolve(&one_left, Dependency::Met, NOW), Ok("ready"));
    check(resolve(&one_left, Dependency::Failed, NOW), Ok("cancelled"));
}

#[test]
fn lost_claim_is_adopted_unless_the_task_moved_on() {
    check(adopt(&ready(spec()), lease(5)), Ok("running"));
    check(adopt(&running(5), lease(5)), Ok("running"));
    check(
        adopt(&running(6), lease(5)),
        Err(Rejected::Fenced { offered: Epoch(5) }),
    );
}

/// A command of any kind, with an epoch from a small range so that stale and repeated ones are common.
#[derive(Clone, Debug)]
enum Command {
    Claim,
    Adopt(u64),
    Report(u64, usize),
    Lose(u64),
    Cancel,
    Expire,
    Wake,
    Resolve(bool),
    Redrive,
    Amend(Option<u64>, Option<u64>, u8),
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => Just(Command::Claim),
        1 => (0_u64..12).prop_map(Command::Adopt),
        4 => (0_u64..12, 0..Outcome::ALL.len()).prop_map(|(epoch, outcome)| Command::Report(epoch, outcome)),
        2 => (0_u64..12).prop_map(Command::Lose),
        1 => Just(Command::Cancel),
        1 => Just(Command::Expire),
        3 => Just(Command::Wake),
        1 => any::<bool>().prop_map(Command::Resolve),
        1 => Just(Command::Redrive),
        2 => (prop::option::of(0_u64..3000), prop::option::of(0_u64..5000), any::<u8>())
            .prop_map(|(run_at, deadline, priority)| Command::Amend(run_at, deadline, priority)),
    ]
}

#[test]
fn what_waits_can_be_changed_and_what_ended_cannot() {
    let now = Timestamp(100);
    let later = Amendment {
        priority: Some(Priority(200)),
        run_at: Some(Timestamp(500)),
        deadline: Some(Some(Timestamp(900))),
        ..Amendment::default()
    };
    let put_off = amend(&ready(spec()), &later, now).expect("it waits");
    assert_eq!(put_off.effect, Effect::SetTimer(Timestamp(500)));
    let task = put_off.next;
    assert_eq!(
        task.state,
        State::Scheduled {
            run_at: Timestamp(500)
        }
    );
    assert_eq!(
        (task.spec.priority, task.spec.deadline),
        (Priority(200), Some(Timestamp(900)))
    );
    let sooner = Amendment {
        run_at: Some(Timestamp(3)),
        deadline: Some(None),
        ..Amendment::default()
    };
    let task = amend(&task, &sooner, now).expect("it waits").next;
    assert_eq!(task.state, State::Scheduled { run_at: now });
    assert_eq!(task.spec.deadline, None);
    assert_eq!(
        amend(&running(1), &later, now),
        Err(Rejected::WrongState {
            state: "running",
            expected: "waiting, as a new time to start at needs it to be",
        })
    );
    let urgent = Amendment {
        priority: Some(Priority(255)),
        ..Amendment::default()
    };
    let task = amend(&running(1), &urgent, now).expect("it may run");
    assert_eq!(
        (task.next.spec.priority, task.effect),
        (Priority(255), Effect::None)
    );
    let ended = cancel(&ready(spec()), now).expect("it waits").next;
    assert_eq!(
        amend(&ended, &urgent, now),
        Err(Rejected::Ended { state: "cancelled" })
    );
    let passed = Amendment {
        deadline: Some(Some(now)),
        ..Amendment::default()
    };
    assert_eq!(
        amend(&ready(spec()), &passed, now),
        Err(Rejected::DeadlinePassed {
            deadline: 100,
            now: 100
        })
    );
}

proptest! {
    #[test]
    fn no_sequence_of_commands_breaks_an_invariant(
        commands in prop::collection::vec((command(), 0_u64..300), 1..60),
        pending in 0_u32..3,
        deadline in prop::option::of(500_u64..5000),
    ) {
        let spec = Spec { deadline: deadline.map(Timestamp), ..spec() };
        let mut task = submit(TaskId([1; 16]), Arc::new(spec), pending, Timestamp(1)).expect("it can be submitted").next;
        invariants::check(None, &task).expect("a submitted task is sound");
        let (mut now, mut epochs) = (1, 0);
        for (command, pause) in commands {
            now += pause;
            let at = Timestamp(now);
            let got = match command {
                Command::Claim => {
                    epochs += 1;
                    claim(&task, lease(epochs))
                }
                Command::Adopt(epoch) => adopt(&task, lease(epoch)),
                Command::Report(epoch, outcome) => report(&task, &ended(epoch, Outcome::ALL[outcome]), at),
                Command::Lose(epoch) => lose(&task, Epoch(epoch), at),
                Command::Cancel => cancel(&task, at),
                Command::Expire => expire(&task, at),
                Command::Wake => wake(&task, at),
                Command::Resolve(met) => resolve(&task, if met { Dependency::Met } else { Dependency::Failed }, at),
                Command::Amend(run_at, deadline, priority) => {
                    let amendment = Amendment {
                        priority: Some(Priority(priority)),
                        run_at: run_at.map(Timestamp),
                        deadline: Some(deadline.map(Timestamp)),
                        ..Amendment::default()
                    };
                    amend(&task, &amendment, at)
                }
                Command::Redrive => redrive(&task, Spec::clone(&task.spec), at),
            };
            if let Ok(transition) = got {
                if let Err(violation) = invariants::check(Some(&task), &transition.next) {
                    return Err(TestCaseError::fail(violation.to_string()));
                }
                epochs = epochs.max(transition.next.last_epoch.map_or(0, |epoch| epoch.0));
                task = transition.next;
            }
        }
    }
}
