//! What comes over a connection or a pipe.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tq_broker::simulation;
use tq_core::label::Labels;
use tq_host::agent::session::{Identity, Seen, Session};
use tq_proto::v1;

pub(crate) fn read(bytes: &[u8]) {
    let Some((choice, bytes)) = crate::choice(bytes, 6) else {
        return;
    };
    match choice {
        0 => {
            if let Ok(hello) = v1::Hello::decode(bytes) {
                simulation::hello_in(hello).ok();
            }
        }
        1 => {
            if let Ok(message) = v1::HostMessage::decode(bytes) {
                simulation::from_host_in(message).ok();
            }
        }
        2 => {
            if let Ok(filter) = v1::DeadLetterFilter::decode(bytes) {
                simulation::dead_letters_in(filter).ok();
            }
        }
        3 => {
            if let Ok(request) = v1::DeleteTasksRequest::decode(bytes) {
                simulation::ended_in(&request).ok();
            }
        }
        4 => session(bytes),
        _ => {
            let messages = tq_host::processes::read_told(bytes);
            assert!(messages <= bytes.len() / 4, "each has a head of four bytes");
        }
    }
}

/// A host's session with a broker that says anything: messages of 255 bytes at most, each after its length.
fn session(mut bytes: &[u8]) {
    let identity = Identity {
        name: "fuzzed".to_owned(),
        incarnation: [7; 16],
        slots: 2,
        labels: Labels::new(),
        memory_bytes: None,
    };
    let mut session = Session::new(identity, Seen::default(), BTreeSet::new(), Vec::new());
    let mut now = Duration::ZERO;
    session.connected(now);
    // The hello, without which nothing is taken.
    session.next_message(now);
    while let Some((len, rest)) = bytes.split_first() {
        let (message, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        bytes = rest;
        if let Ok(message) = v1::BrokerMessage::decode(Bytes::copy_from_slice(message)) {
            now += Duration::from_millis(100);
            session.received(message, now);
            while session.next_command().is_some() {}
            while session.next_message(now).is_some() {}
            session.tick(now);
        }
    }
}
