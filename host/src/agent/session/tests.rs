use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message as _;
use tq_core::limits::INLINE_BYTES_MAX;
use tq_core::outcome::{Outcome, Usage};
use tq_proto::v1::Blob;
use tq_proto::v1::data::Kind as DataKind;
use tq_proto::v1::host_message::Kind as ToBroker;

use super::compose::inline;
use super::*;
use crate::runner::Finished;

const STORE: &[u8] = b"0123456789abcdef";

/// A session, its clock, and what it said and wanted so far.
struct Bench {
    session: Session,
    now: Duration,
    commands: Vec<Command>,
}

impl Bench {
    fn new(spooled: Vec<AttemptOutcome>) -> Self {
        let identity = Identity {
            name: "h1".to_owned(),
            incarnation: [7; 16],
            slots: 4,
            labels: Labels::from([("zone".into(), "eu".into())]),
            memory_bytes: Some(1 << 30),
        };
        Self {
            session: Session::new(identity, Seen::default(), BTreeSet::new(), spooled),
            now: Duration::from_secs(100),
            commands: Vec::new(),
        }
    }

    /// Connected, welcomed, and the first messages taken.
    fn up() -> Self {
        let mut bench = Self::new(Vec::new());
        bench.connect(&[]);
        bench.messages();
        bench.commands.clear();
        bench
    }

    fn connect(&mut self, fenced: &[u64]) -> v1::Hello {
        self.session.connected(self.now);
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "only the hello comes before the welcome");
        let ToBroker::Hello(hello) = messages.remove(0) else {
            panic!("the first message is {messages:?}");
        };
        self.receive(welcome(fenced, 10));
        hello
    }

    fn receive(&mut self, kind: FromBroker) {
        self.session
            .received(BrokerMessage { kind: Some(kind) }, self.now);
    }

    fn assign(&mut self, epochs: impl IntoIterator<Item = u64>) {
        let assignments = epochs.into_iter().map(assignment).collect();
        self.receive(FromBroker::Assignments(v1::Assignments {
            assignments,
            seq: 10,
        }));
    }

    fn finish(&mut self, epoch: u64, outcome: Outcome, result: Option<Bytes>) {
        self.session.finished(Finished {
            epoch: Epoch(epoch),
            outcome,
            result,
            failure: None,
            retry_after: None,
            usage: Usage {
                wall_ns: 1_000_000_000,
                ..Usage::default()
            },
        });
    }

    fn succeed(&mut self, epoch: u64) {
        self.finish(epoch, Outcome::Succeeded, Some(Bytes::from_static(b"ok")));
    }

    fn ack(&mut self, epochs: &[u64]) {
        let acks = (epochs.iter())
            .map(|&epoch| v1::Ack {
                epoch,
                fenced: false,
            })
            .collect();
        self.receive(FromBroker::Acks(v1::Acks { acks, seq: 10 }));
    }

    fn messages(&mut self) -> Vec<ToBroker> {
        let mut messages = Vec::new();
        while let Some(message) = self.session.next_message(self.now) {
            messages.extend(message.kind);
            assert!(messages.len() < 1000, "the session never falls silent");
        }
        self.commands();
        messages
    }

    /// The names of what it wanted since the last call.
    fn commands(&mut self) -> Vec<String> {
        let commands: Vec<Command> = std::iter::from_fn(|| self.session.next_command()).collect();
        let names = commands.iter().map(name).collect();
        self.commands.extend(commands);
        names
    }

    fn wanted(&mut self) -> Vec<String> {
        self.commands();
        self.commands
            .drain(..)
            .map(|command| name(&command))
            .collect()
    }

    fn uploads(&mut self) -> Vec<(UploadId, Bytes)> {
        self.commands();
        let uploads = self.commands.drain(..).filter_map(|command| match command {
            Command::Upload { id, bytes } => Some((id, bytes)),
            _ => None,
        });
        uploads.collect()
    }
}

fn name(command: &Command) -> String {
    match command {
        Command::Start(assignment) => format!("start {}", assignment.epoch),
        Command::Stop { epoch, why } => format!("stop {} {why:?}", epoch.0),
        Command::HandBack => "hand back".to_owned(),
        Command::Prepare { digest, .. } => format!("prepare {}", digest.0[0]),
        Command::Upload { bytes, .. } => format!("upload {}", bytes.len()),
        Command::Spool(outcome) => format!("spool {}", outcome.epoch),
        Command::Unspool(epoch) => format!("unspool {}", epoch.0),
        Command::Welcomed => "welcomed".to_owned(),
        Command::Acknowledged { outcomes, fenced } => {
            format!("acknowledged {outcomes} fenced {fenced}")
        }
        Command::Disconnect(breach) => format!("disconnect: {breach}"),
    }
}

fn welcome(fenced: &[u64], seq: u64) -> FromBroker {
    FromBroker::Welcome(v1::Welcome {
        store: Bytes::from_static(STORE),
        generation: 1,
        lease_ms: 10_000,
        heartbeat_ms: 2_000,
        fenced: fenced.to_vec(),
        seq,
    })
}

fn assignment(epoch: u64) -> Assignment {
    Assignment {
        task_id: format!("task-{epoch}"),
        namespace: "default".to_owned(),
        epoch,
        token: Bytes::from(epoch.to_le_bytes().to_vec()),
        digest: Bytes::from_static(&[7; 32]),
        attempt: 1,
        ..Assignment::default()
    }
}

#[test]
fn outcomes_gather_at_the_pace_of_the_broker() {
    let mut bench = Bench::up();
    let sent = |bench: &mut Bench| -> Vec<usize> {
        let messages = bench.messages().into_iter();
        let sizes = messages.filter_map(|message| match message {
            ToBroker::Outcomes(outcomes) => Some(outcomes.outcomes.len()),
            _ => None,
        });
        sizes.collect()
    };
    bench.assign(1..=8);
    bench.succeed(1);
    assert_eq!(sent(&mut bench), [1], "the first one goes at once");
    bench.succeed(2);
    bench.succeed(3);
    assert_eq!(sent(&mut bench), [2], "few are on their way");
    bench.succeed(4);
    assert_eq!(sent(&mut bench), [0; 0], "3 are on their way, and 1 is due");
    bench.succeed(5);
    assert_eq!(sent(&mut bench), [2], "half as many have gathered");
    bench.succeed(6);
    assert_eq!(sent(&mut bench), [0; 0]);
    bench.ack(&[1, 2, 3]);
    assert_eq!(sent(&mut bench), [1], "2 are on their way");
    // On another connection nothing is on its way.
    bench.succeed(7);
    assert_eq!(sent(&mut bench), [0; 0]);
    bench.session.disconnected();
    let hello = bench.connect(&[]);
    assert_eq!(hello.outcomes.len(), 4);
    bench.ack(&[4, 5, 6, 7]);
    bench.succeed(8);
    assert_eq!(sent(&mut bench), [1]);
}

#[test]
fn host_that_leaves_holds_no_outcome_back() {
    let mut bench = Bench::up();
    bench.assign(1..=8);
    (1..=4).for_each(|epoch| bench.succeed(epoch));
    bench.messages();
    bench.session.drain();
    bench.succeed(5);
    let told = bench.messages().into_iter().any(
        |message| matches!(message, ToBroker::Outcomes(outcomes) if epochs(&outcomes.outcomes) == [5]),
    );
    assert!(told, "4 are on their way, and 1 goes all the same");
}

#[test]
fn assignment_has_what_it_leaves_out_in_common_with_the_one_before() {
    let whole = Assignment {
        function: "greet".to_owned(),
        content_type: "text/plain".to_owned(),
        limits: Some(v1::Limits::default()),
        max_attempts: 3,
        ..assignment(1)
    };
    let other = Assignment {
        digest: Bytes::from_static(&[8; 32]),
        ..assignment(3)
    };
    let bare = |epoch| Assignment {
        namespace: String::new(),
        digest: Bytes::new(),
        ..assignment(epoch)
    };
    let sent = vec![whole.clone(), bare(2), other.clone(), bare(4), bare(5)];
    let expected = [
        whole.clone(),
        Assignment {
            task_id: "task-2".to_owned(),
            epoch: 2,
            token: bare(2).token,
            ..whole
        },
        other.clone(),
        Assignment {
            task_id: "task-4".to_owned(),
            epoch: 4,
            token: bare(4).token,
            ..other.clone()
        },
        Assignment {
            task_id: "task-5".to_owned(),
            epoch: 5,
            token: bare(5).token,
            ..other
        },
    ];
    assert_eq!(held::fill_in(sent), Ok(expected.to_vec()));
    assert!(
        held::fill_in(vec![bare(1)]).is_err(),
        "there is none before"
    );
}

fn outcome(epoch: u64) -> AttemptOutcome {
    AttemptOutcome {
        task_id: format!("task-{epoch}"),
        epoch,
        outcome: "succeeded".to_owned(),
        ..AttemptOutcome::default()
    }
}

fn blob() -> Blob {
    Blob {
        digest: Bytes::from_static(&[9; 32]),
        size_bytes: 1,
    }
}

fn epochs<'a>(outcomes: impl IntoIterator<Item = &'a AttemptOutcome>) -> Vec<u64> {
    outcomes.into_iter().map(|outcome| outcome.epoch).collect()
}

/// A message in short.
fn said(message: &ToBroker) -> String {
    match message {
        ToBroker::Hello(_) => "hello".to_owned(),
        ToBroker::Credits(credits) => format!("credits {}", credits.granted),
        ToBroker::Outcomes(outcomes) => format!("outcomes {:?}", epochs(&outcomes.outcomes)),
        ToBroker::Progress(progress) => (progress.reports.iter())
            .map(|report| format!("progress {} {}", report.epoch, report.note))
            .collect(),
        ToBroker::Ready(ready) => format!(
            "ready {} dropped {}",
            ready.digests.len(),
            ready.dropped.len()
        ),
        ToBroker::PrepareFailed(failed) => format!("prepare failed: {}", failed.message),
        ToBroker::Checkpoint(checkpoint) => {
            let state = match checkpoint
                .state
                .as_ref()
                .and_then(|state| state.kind.as_ref())
            {
                Some(DataKind::Inline(bytes)) => format!("of {}", bytes.len()),
                Some(DataKind::Blob(_)) => "in a blob".to_owned(),
                None => "of nothing".to_owned(),
            };
            format!("checkpoint {} {state}", checkpoint.epoch)
        }
        ToBroker::Heartbeat(_) => "heartbeat".to_owned(),
        ToBroker::Draining(_) => "draining".to_owned(),
    }
}

#[track_caller]
fn says(bench: &mut Bench, expected: &[&str]) {
    let messages: Vec<String> = bench.messages().iter().map(said).collect();
    assert_eq!(messages, expected);
}

#[test]
fn all_that_ended_goes_in_one_message_with_the_credits_that_it_freed() {
    let mut bench = Bench::new(Vec::new());
    let hello = bench.connect(&[]);
    assert_eq!(
        (hello.name.as_str(), hello.slots, hello.incarnation.len()),
        ("h1", 4, 16)
    );
    says(&mut bench, &["credits 8"]);
    bench.assign(1..=8);
    says(&mut bench, &[]);
    (1..=5).for_each(|epoch| bench.succeed(epoch));
    // Attempts take a second, so nothing is to wait here: eight were taken, three are held, one slot is free.
    says(&mut bench, &["outcomes [1, 2, 3, 4, 5]", "credits 9"]);
}

#[test]
fn more_assignments_than_credits_end_the_connection() {
    let mut bench = Bench::up();
    bench.assign(1..=9);
    assert_eq!(
        bench.wanted().last().map(String::as_str),
        Some("disconnect: the broker broke the protocol: more assignments than credits")
    );
    assert!(!bench.session.is_up());
}

#[test]
fn assignment_sent_twice_is_run_once() {
    let mut bench = Bench::up();
    bench.assign([1, 1]);
    assert_eq!(bench.wanted(), ["start 1"]);
    bench.succeed(1);
    bench.assign([1]);
    assert_eq!(bench.wanted(), [""; 0]);
}

#[test]
fn outcome_is_kept_until_it_is_acknowledged() {
    let mut bench = Bench::up();
    bench.assign([1, 2]);
    bench.succeed(1);
    bench.messages();
    bench.wanted();
    assert_eq!(bench.session.kept(), 1);
    bench.ack(&[1]);
    bench.ack(&[1]);
    assert_eq!(
        bench.wanted(),
        ["acknowledged 1 fenced 0", "acknowledged 0 fenced 0"]
    );
    assert_eq!((bench.session.kept(), bench.session.held()), (0, 1));
}

#[test]
fn reconnect_tells_what_is_held_and_what_has_ended() {
    let mut bench = Bench::up();
    bench.assign(1..=4);
    bench.succeed(1);
    bench.messages();
    bench.session.disconnected();
    bench.succeed(2);
    bench.wanted();
    let hello = bench.connect(&[3, 2]);
    assert_eq!(epochs(&hello.outcomes), [1, 2]);
    assert_eq!(
        hello.held.iter().map(|held| held.epoch).collect::<Vec<_>>(),
        [3, 4]
    );
    // What the broker no longer wants is stopped and forgotten, on disk too.
    assert_eq!(
        bench.wanted(),
        ["stop 3 Abandoned", "unspool 2", "welcomed"]
    );
    bench.succeed(3);
    bench.succeed(4);
    says(&mut bench, &["outcomes [4]", "credits 4"]);
    bench.ack(&[1, 4]);
    assert_eq!(bench.wanted(), ["unspool 1", "acknowledged 2 fenced 0"]);
    assert_eq!(bench.session.kept(), 0);
}

#[test]
fn outcomes_are_on_disk_while_nobody_takes_them() {
    let mut bench = Bench::up();
    bench.assign([1, 2]);
    bench.succeed(1);
    bench.messages();
    bench.wanted();
    bench.session.disconnected();
    assert_eq!(bench.wanted(), ["spool 1"]);
    bench.succeed(2);
    assert_eq!(bench.wanted(), ["spool 2"]);
    bench.session.disconnected();
    assert_eq!(bench.wanted(), [""; 0], "once is enough");
}

#[test]
fn outcomes_of_an_earlier_process_are_in_the_hello() {
    let mut bench = Bench::new(vec![outcome(5), outcome(6)]);
    assert_eq!(epochs(&bench.connect(&[]).outcomes), [5, 6]);
    bench.ack(&[5, 6]);
    assert_eq!(
        bench.wanted(),
        [
            "welcomed",
            "unspool 5",
            "unspool 6",
            "acknowledged 2 fenced 0"
        ]
    );
}

#[test]
fn outcomes_that_the_hello_has_no_room_for_stay_held_and_follow() {
    let result = Bytes::from(vec![0; INLINE_BYTES_MAX]);
    let spooled = (1..=100).map(|epoch| AttemptOutcome {
        result: Some(inline(result.clone())),
        ..outcome(epoch)
    });
    let mut bench = Bench::new(spooled.collect());
    let hello = bench.connect(&[]);
    assert!(hello.encoded_len() < HELLO_OUTCOMES_BYTES + 64 * 1024);
    assert_eq!(hello.outcomes.len() + hello.held.len(), 100);
    let mut later = 0;
    let mut told = epochs(&hello.outcomes);
    while !told.is_empty() {
        bench.ack(&std::mem::take(&mut told));
        for message in bench.messages() {
            assert!(message.encoded_len() <= OUTCOMES_MESSAGE_BYTES + 1024);
            if let ToBroker::Outcomes(outcomes) = message {
                later += outcomes.outcomes.len();
                told.extend(epochs(&outcomes.outcomes));
            }
        }
    }
    assert_eq!(later, hello.held.len());
}

#[test]
fn large_result_is_uploaded_before_its_outcome() {
    let large = Bytes::from(vec![1; INLINE_BYTES_MAX + 1]);
    let mut bench = Bench::up();
    bench.assign([1]);
    bench.finish(1, Outcome::Succeeded, Some(large.clone()));
    assert!(
        !bench
            .messages()
            .iter()
            .any(|message| matches!(message, ToBroker::Outcomes(_)))
    );
    let (lost, _) = bench.uploads().remove(0);

    // The connection fails under it: the broker keeps the lease, and the upload begins again.
    bench.session.disconnected();
    assert_eq!(bench.connect(&[]).held.len(), 1);
    let (id, bytes) = bench.uploads().remove(0);
    assert_eq!(bytes, large);
    bench.session.uploaded(lost, blob());
    says(&mut bench, &["credits 4"]);
    bench.session.uploaded(id, blob());
    let messages = bench.messages();
    let [ToBroker::Outcomes(outcomes)] = &messages[..] else {
        panic!("{messages:?}");
    };
    let kind = outcomes.outcomes[0]
        .result
        .clone()
        .and_then(|data| data.kind);
    assert_eq!(kind, Some(DataKind::Blob(blob())));
}

#[test]
fn host_with_too_much_to_deliver_asks_for_no_work() {
    let large = Bytes::from(vec![1; 8 << 20]);
    let mut bench = Bench::up();
    bench.assign(1..=8);
    (1..=8).for_each(|epoch| bench.finish(epoch, Outcome::Succeeded, Some(large.clone())));
    says(&mut bench, &[]);
    for (id, _) in bench.uploads() {
        bench.session.uploaded(id, blob());
    }
    says(
        &mut bench,
        &["outcomes [1, 2, 3, 4, 5, 6, 7, 8]", "credits 12"],
    );
}

#[test]
fn draining_host_ends_what_it_has_and_takes_nothing_new() {
    let mut bench = Bench::up();
    bench.assign([1, 2]);
    bench.session.drain();
    says(&mut bench, &["draining"]);
    bench.assign([3]); // It crossed.
    bench.succeed(1);
    says(&mut bench, &["outcomes [3, 1]"]);
    bench.ack(&[3, 1]);
    assert!(!bench.session.is_drained());
    bench.wanted();
    bench.session.abandon();
    assert_eq!(bench.wanted(), ["stop 2 Abandoned"]);
    says(&mut bench, &["outcomes [2]"]);
    assert!(!bench.session.is_drained());
    bench.ack(&[2]);
    assert!(bench.session.is_drained());
}

#[test]
fn hello_says_what_the_host_has() {
    let hello = Bench::new(Vec::new()).connect(&[]);
    let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
    assert_eq!((hello.labels, hello.memory_bytes), (labels, Some(1 << 30)));
}

#[test]
fn host_that_is_emptied_hands_back_and_goes_on() {
    let mut bench = Bench::up();
    bench.assign([1, 2]);
    bench.wanted();
    bench.receive(FromBroker::HandBack(v1::HandBack {}));
    assert_eq!(bench.wanted(), ["hand back"]);
    bench
        .session
        .not_run(Epoch(2), Outcome::HostDrained, "why".to_owned());
    says(&mut bench, &["outcomes [2]"]);
    bench.ack(&[2]);
    bench.succeed(1);
    says(&mut bench, &["outcomes [1]"]);
    assert!(!bench.session.is_drained(), "it does not end by itself");
}

#[test]
fn host_that_is_removed_has_nothing_any_more() {
    let mut bench = Bench::up();
    bench.assign([1, 2]);
    bench.succeed(1);
    bench.wanted();
    bench.receive(FromBroker::Removed(v1::Removed {}));
    assert_eq!(
        bench.wanted(),
        [
            "stop 2 Abandoned",
            "disconnect: this host was removed with `tq host remove`; start it again to let it join as a new one"
        ]
    );
    assert_eq!((bench.session.held(), bench.session.kept()), (0, 0));
    bench.session.drain();
    assert!(bench.session.is_drained());
}

#[test]
fn draining_host_says_so_again_after_a_reconnect() {
    let mut bench = Bench::up();
    bench.assign([1]);
    bench.session.drain();
    bench.messages();
    bench.session.disconnected();
    bench.connect(&[]);
    says(&mut bench, &["draining"]);
    bench.session.disconnected();
    assert!(!bench.session.is_drained());
    bench.succeed(1);
    assert!(bench.session.is_drained(), "what nobody takes is on disk");
}

#[test]
fn idle_session_has_a_heartbeat_and_notices_silence() {
    let mut bench = Bench::up();
    let start = bench.now;
    assert_eq!(
        bench.session.wake_at(true),
        Some(start + Duration::from_secs(2))
    );
    assert_eq!(
        bench.session.wake_at(false),
        Some(start + Duration::from_secs(10))
    );
    bench.now = start + Duration::from_secs(2);
    says(&mut bench, &["heartbeat"]);
    says(&mut bench, &[]);
    bench.receive(FromBroker::Heartbeat(v1::Heartbeat {}));
    bench.now += Duration::from_millis(9_999);
    bench.session.tick(bench.now);
    assert!(bench.session.is_up());
    bench.now += Duration::from_millis(1);
    bench.session.tick(bench.now);
    assert_eq!(
        bench.wanted(),
        ["disconnect: the broker was silent for 10s"]
    );
    assert_eq!(
        bench.session.wake_at(true),
        None,
        "nothing polls without a connection"
    );
}

#[test]
fn broker_that_never_welcomes_is_given_up() {
    let mut bench = Bench::new(Vec::new());
    bench.session.connected(bench.now);
    assert_eq!(bench.messages().len(), 1);
    bench.now += LEASE;
    bench.session.tick(bench.now);
    assert_eq!(
        bench.wanted(),
        ["disconnect: the broker was silent for 10s"]
    );
}

#[test]
fn progress_is_the_latest_and_paced() {
    let mut bench = Bench::up();
    bench.assign([1]);
    for note in ["a", "b"] {
        bench.session.progressed(Epoch(1), 0.5, note.to_owned());
    }
    says(&mut bench, &["progress 1 b"]);
    bench.session.progressed(Epoch(1), 0.6, "c".to_owned());
    bench
        .session
        .progressed(Epoch(2), 0.6, "of nobody".to_owned());
    says(&mut bench, &[]);
    assert_eq!(
        bench.session.wake_at(true),
        Some(bench.now + REPORT_INTERVAL)
    );
    bench.now += REPORT_INTERVAL;
    says(&mut bench, &["progress 1 c"]);
}

#[test]
fn newest_checkpoint_wins_and_is_told_again_after_a_reconnect() {
    let mut bench = Bench::up();
    bench.assign([1]);
    bench.session.saved(Epoch(1), Bytes::from_static(b"1"));
    bench.session.saved(Epoch(1), Bytes::from_static(b"22"));
    says(&mut bench, &["checkpoint 1 of 2"]);
    bench.session.disconnected();
    bench.now += REPORT_INTERVAL;
    bench.connect(&[]);
    says(&mut bench, &["checkpoint 1 of 2", "credits 7"]);
}

#[test]
fn large_checkpoint_overtaken_by_a_newer_one_is_not_told() {
    let large = Bytes::from(vec![1; INLINE_BYTES_MAX + 1]);
    let mut bench = Bench::up();
    bench.assign([1]);
    bench.session.saved(Epoch(1), large);
    says(&mut bench, &[]);
    let (old, _) = bench.uploads().remove(0);
    bench.session.saved(Epoch(1), Bytes::from_static(b"new"));
    bench.session.uploaded(old, blob());
    says(&mut bench, &[]);
    bench.now += REPORT_INTERVAL;
    says(&mut bench, &["checkpoint 1 of 3"]);
}

#[test]
fn checkpoint_of_a_failed_attempt_arrives_before_its_outcome() {
    let large = Bytes::from(vec![1; INLINE_BYTES_MAX + 1]);
    let mut bench = Bench::up();
    bench.assign([1, 2, 3]);
    bench.session.saved(Epoch(1), Bytes::from_static(b"1"));
    bench.session.saved(Epoch(2), large);
    bench.session.saved(Epoch(3), Bytes::from_static(b"3"));
    bench.finish(1, Outcome::Trap, None);
    bench.finish(2, Outcome::Trap, None);
    bench.succeed(3); // No attempt follows that would begin with it.
    says(&mut bench, &["checkpoint 1 of 1", "outcomes [1, 3]"]);
    let (id, _) = bench.uploads().remove(0);
    bench.session.uploaded(id, blob());
    says(&mut bench, &["checkpoint 2 in a blob", "outcomes [2]"]);
}

#[test]
fn store_that_went_back_is_refused() {
    let mut bench = Bench::up();
    bench.receive(FromBroker::Acks(v1::Acks {
        acks: Vec::new(),
        seq: 12,
    }));
    assert_eq!(bench.session.seen().seq, 12);
    bench.session.connected(bench.now);
    bench.messages();
    bench.wanted();
    bench.receive(welcome(&[], 11));
    assert_eq!(
        bench.wanted(),
        [
            "disconnect: the broker's store was rolled back: it is at sequence 11, and this host saw 12 acknowledged; \
             see `tq admin check`"
        ]
    );
    // Another store is another matter.
    bench.session.connected(bench.now);
    bench.messages();
    bench.receive(FromBroker::Welcome(v1::Welcome {
        store: Bytes::from_static(b"another store..."),
        lease_ms: 1,
        heartbeat_ms: 1,
        seq: 1,
        ..v1::Welcome::default()
    }));
    assert_eq!((bench.session.is_up(), bench.session.seen().seq), (true, 1));
}

#[test]
fn module_is_prepared_once_and_announced() {
    let digest = Digest([3; 32]);
    let prepare = || {
        FromBroker::Prepare(v1::Prepare {
            digest: Bytes::copy_from_slice(&digest.0),
            size_bytes: 1,
        })
    };
    let mut bench = Bench::up();
    bench.receive(prepare());
    bench.receive(prepare());
    assert_eq!(bench.wanted(), ["prepare 3"]);
    bench.session.prepare_failed(digest, "no".to_owned(), false);
    says(&mut bench, &["prepare failed: no"]);
    bench.receive(prepare());
    assert_eq!(bench.wanted(), ["prepare 3"]);
    bench.session.prepared(digest);
    says(&mut bench, &["ready 1 dropped 0"]);
    bench.receive(prepare());
    says(&mut bench, &["ready 1 dropped 0"]);
    assert_eq!(bench.connect(&[]).ready.len(), 1);
    bench.messages();
    bench.session.dropped(digest);
    says(&mut bench, &["ready 0 dropped 1"]);
    assert_eq!(bench.connect(&[]).ready.len(), 0);
}

#[test]
fn stop_goes_to_attempts_that_are_here() {
    let mut bench = Bench::up();
    bench.assign([1, 2, 3]);
    bench.wanted();
    for (epoch, reason) in [
        (1, v1::StopReason::Cancelled),
        (2, v1::StopReason::Deadline),
        (3, v1::StopReason::Fenced),
        (4, v1::StopReason::Cancelled),
    ] {
        bench.receive(FromBroker::Stop(v1::Stop {
            epoch,
            reason: reason.into(),
        }));
    }
    assert_eq!(
        bench.wanted(),
        [
            "stop 1 Cancelled",
            "stop 2 DeadlineExceeded",
            "stop 3 Abandoned"
        ]
    );
    assert_eq!(bench.session.held(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Assign(u8),
    Finish(u8, bool),
    Ack(u8),
    Upload,
    Disconnect,
    Connect,
    Say,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..6_u8).prop_map(Step::Assign),
        (any::<u8>(), prop::bool::weighted(0.2))
            .prop_map(|(which, is_large)| Step::Finish(which, is_large)),
        (0..6_u8).prop_map(Step::Ack),
        Just(Step::Upload),
        Just(Step::Disconnect),
        Just(Step::Connect),
        Just(Step::Say),
    ]
}

/// A broker that checks what it hears.
#[derive(Default)]
struct Model {
    granted: u64,
    assigned: u64,
    running: Vec<u64>,
    /// Outcomes that ended, and whether the broker acknowledged them.
    ended: BTreeMap<u64, bool>,
    heard: Vec<u64>,
    next: u64,
}

impl Model {
    fn hear(&mut self, bench: &mut Bench) {
        for message in bench.messages() {
            match message {
                ToBroker::Credits(credits) => {
                    assert!(credits.granted > self.granted);
                    self.granted = credits.granted;
                }
                ToBroker::Outcomes(outcomes) => self.heard.extend(epochs(&outcomes.outcomes)),
                _ => {}
            }
        }
    }

    fn connect(&mut self, bench: &mut Bench) {
        let hello = bench.connect(&[]);
        (self.granted, self.assigned) = (0, 0);
        self.heard = epochs(&hello.outcomes);
        let mut told: Vec<u64> = hello
            .held
            .iter()
            .map(|held| held.epoch)
            .chain(self.heard.clone())
            .collect();
        told.sort_unstable();
        let open = self
            .ended
            .iter()
            .filter(|(_, is_acked)| !**is_acked)
            .map(|(epoch, _)| *epoch);
        let mut expected: Vec<u64> = self.running.iter().copied().chain(open).collect();
        expected.sort_unstable();
        assert_eq!(
            told, expected,
            "the hello names every attempt that is not settled, once"
        );
        self.hear(bench);
    }

    fn ack(&mut self, bench: &mut Bench, count: usize) {
        let count = count.min(self.heard.len());
        let acks: Vec<u64> = self.heard.drain(..count).collect();
        for epoch in &acks {
            let was_acked = self.ended.insert(*epoch, true);
            assert_eq!(
                was_acked,
                Some(false),
                "an outcome is told once in a session"
            );
        }
        bench.ack(&acks);
    }
}

proptest! {
    /// Whatever the link does, each attempt's outcome reaches the broker, and nothing stays behind on the host.
    #[test]
    fn no_outcome_is_lost(steps in prop::collection::vec(step(), 0..200)) {
        let mut bench = Bench::new(Vec::new());
        let mut model = Model::default();
        let mut spooled = BTreeSet::new();
        for step in steps.into_iter().chain([Step::Connect]) {
            match step {
                Step::Assign(count) if bench.session.is_up() => {
                    let count = u64::from(count).min(model.granted - model.assigned);
                    bench.assign(model.next..model.next + count);
                    model.running.extend(model.next..model.next + count);
                    model.assigned += count;
                    model.next += count;
                }
                Step::Finish(which, is_large) if !model.running.is_empty() => {
                    let epoch = model.running.swap_remove(usize::from(which) % model.running.len());
                    let bytes = if is_large { INLINE_BYTES_MAX + 1 } else { 1 };
                    bench.finish(epoch, Outcome::Succeeded, Some(Bytes::from(vec![0; bytes])));
                    model.ended.insert(epoch, false);
                }
                Step::Ack(count) if bench.session.is_up() => model.ack(&mut bench, usize::from(count)),
                Step::Upload => {
                    bench.commands();
                    let at = bench.commands.iter().position(|command| matches!(command, Command::Upload { .. }));
                    if let Some(Command::Upload { id, .. }) = at.map(|at| bench.commands.remove(at)) {
                        bench.session.uploaded(id, blob());
                    }
                }
                Step::Disconnect => bench.session.disconnected(),
                Step::Connect => model.connect(&mut bench),
                Step::Say => model.hear(&mut bench),
                Step::Assign(_) | Step::Finish(..) | Step::Ack(_) => {}
            }
        }
        for epoch in std::mem::take(&mut model.running) {
            bench.finish(epoch, Outcome::Trap, None);
            model.ended.insert(epoch, false);
        }
        bench.commands();
        for command in std::mem::take(&mut bench.commands) {
            match command {
                Command::Upload { id, .. } => bench.session.uploaded(id, blob()),
                Command::Spool(outcome) => prop_assert!(spooled.insert(outcome.epoch)),
                Command::Unspool(epoch) => prop_assert!(spooled.remove(&epoch.0)),
                Command::Start(_) | Command::Stop { .. } | Command::HandBack | Command::Prepare { .. } | Command::Welcomed
                | Command::Acknowledged { .. } | Command::Disconnect(_) => {}
            }
        }
        model.hear(&mut bench);
        while !model.heard.is_empty() {
            model.ack(&mut bench, usize::MAX);
            model.hear(&mut bench);
        }
        prop_assert!(model.ended.values().all(|is_acked| *is_acked));
        prop_assert_eq!((bench.session.kept(), bench.session.held(), bench.session.kept_bytes), (0, 0, 0));
        bench.commands();
        for command in bench.commands.drain(..) {
            if let Command::Unspool(epoch) = command {
                prop_assert!(spooled.remove(&epoch.0));
            }
        }
        prop_assert!(spooled.is_empty(), "files left: {:?}", spooled);
    }
}
