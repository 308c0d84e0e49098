//! What people write: ids, digests, names, labels, filters, cursors. What can be read and written leads back to itself.

use std::fmt::Display;
use std::str::FromStr;

use tq_core::grant::{BucketName, HttpGrant, SecretGrant, TcpGrant};
use tq_core::{Digest, Outcome, TaskId, label, name, signature::Signature};

pub(crate) fn read(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    there_and_back::<TaskId>(text);
    there_and_back::<Digest>(text);
    there_and_back::<Outcome>(text);
    there_and_back::<Signature>(text);
    there_and_back::<HttpGrant>(text);
    there_and_back::<TcpGrant>(text);
    there_and_back::<SecretGrant>(text);
    there_and_back::<BucketName>(text);
    Signature::range(text).ok();
    name::check("module name", text).ok();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    label::gather(pairs).ok();
    tq_broker::simulation::texts_in(text);
}

fn there_and_back<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = T::from_str(text) {
        let again = T::from_str(&value.to_string());
        assert_eq!(again.ok().as_ref(), Some(&value), "`{text}`");
    }
}
