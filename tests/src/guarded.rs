//! A broker with access control, and callers who show it keys.

use std::path::Path;

use tq_client::{Bearer, Client};

use crate::command::Tq;
use crate::node::Broker;

/// A `tq broker` with access control.
pub struct Guarded {
    /// The broker.
    pub broker: Broker,
    /// A key of role `admin` for all namespaces.
    pub admin_key: String,
}

impl Guarded {
    /// Turns access control on for `data_dir`, and starts a broker there.
    ///
    /// # Panics
    /// It does not come to serve.
    pub async fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[]).await
    }

    /// Starts one with further flags.
    ///
    /// # Panics
    /// It does not come to serve.
    pub async fn start_with(data_dir: &Path, flags: &[&str]) -> Self {
        Self::start_in(data_dir, flags, &[]).await
    }

    /// Starts one with further flags, in an environment with variables that name files.
    ///
    /// # Panics
    /// It does not come to serve.
    pub async fn start_in(data_dir: &Path, flags: &[&str], environment: &[(&str, &Path)]) -> Self {
        let admin_key = turn_on(data_dir).await;
        let broker = Broker::start_in(data_dir, flags, environment).await;
        Self { broker, admin_key }
    }

    /// Makes a key.
    ///
    /// # Panics
    /// It is refused.
    pub async fn key(&self, role: &str, namespaces: &[&str]) -> String {
        let mut words = vec!["key", "create", role, "--role", role];
        words.extend(namespaces.iter().flat_map(|name| ["--for", name]));
        let made = self.tq(&self.admin_key).run(words).await;
        made.text().trim().to_owned()
    }

    /// Commands with a key.
    #[must_use]
    pub fn tq(&self, key: &str) -> Tq {
        self.broker.tq().with_env("TQ_KEY", key)
    }

    /// A client with a key.
    ///
    /// # Panics
    /// The broker cannot be reached.
    pub async fn client(&self, key: &str) -> Client {
        let bearer = Bearer::new(key).expect("it is a key");
        let client = self.broker.client().await.with_credential(bearer);
        client.expect("it is on this machine")
    }
}

/// Turns access control on, and returns the first key.
///
/// # Panics
/// It is refused.
pub async fn turn_on(data_dir: &Path) -> String {
    let data_dir = data_dir.to_str().expect("it is text");
    let words = ["broker", "init", "--data-dir", data_dir];
    let key = Tq::default().run(words).await;
    key.text().trim().to_owned()
}

/// The id in a key.
///
/// # Panics
/// It is none.
#[must_use]
pub fn id(key: &str) -> &str {
    key.split('_').nth(1).expect("it is a key")
}
