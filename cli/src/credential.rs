//! The key that clients and hosts show the broker.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use http::Uri;
use tq_broker::access::jwt::KeySet;
use tq_client::Bearer;

use crate::exit::Failure;
use crate::output;

/// Where the key is. It never prints the key itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// Here: what `TQ_KEY` holds.
    Text(String),
    /// In a file.
    File(PathBuf),
}

impl KeySource {
    /// The key, as it is sent.
    ///
    /// # Errors
    /// The file cannot be read, or there is no key in it.
    pub(crate) fn bearer(&self) -> Result<Bearer, Failure> {
        let refuse = |place: &str, error| Failure::usage(format!("{place}: {error}"));
        match self {
            Self::Text(text) => Bearer::new(text.trim()).map_err(|error| refuse("TQ_KEY", error)),
            Self::File(path) => {
                let place = format!("`{}`", path.display());
                let text = fs::read_to_string(path).map_err(|error| {
                    Failure::usage(format!("failed to read the key from {place}: {error}"))
                })?;
                warn_if_others_read(path);
                let bearer = Bearer::new(text.trim());
                Ok(bearer.map_err(|error| refuse(&place, error))?.of_file(path))
            }
        }
    }
}

/// Not refused: in a container everybody may be the same user, and the file belong to another.
fn warn_if_others_read(path: &Path) {
    let mode = fs::metadata(path).map(|found| found.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o004 != 0) {
        output::note(format!(
            "warning: every user of this machine can read the key in `{path}`; `chmod o-r {path}` takes that from them",
            path = path.display()
        ));
    }
}

impl FromStr for KeySource {
    type Err = Infallible;

    fn from_str(path: &str) -> Result<Self, Infallible> {
        Ok(Self::File(path.into()))
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("[redacted]"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the keys of an issuer of tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySetArg(pub(crate) KeySet);

impl FromStr for KeySetArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(Self(KeySet::File(text.into())));
        };
        let address: Uri = text
            .parse()
            .map_err(|error| format!("`{text}` is no address: {error}"))?;
        let authority = address.authority();
        if authority.is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(format!("`{text}` names no server, or a user's name"));
        }
        let is_local = address.host().is_some_and(tq_client::is_loopback);
        match scheme {
            "https" => Ok(Self(KeySet::Url(text.to_owned()))),
            "http" if is_local => Ok(Self(KeySet::Url(text.to_owned()))),
            // Whoever is on the way could put keys of their own in.
            "http" => Err(format!("`{text}` is not safe; use `https`, or a file")),
            _ => Err(format!(
                "`{text}` is neither a file nor an address with `https`"
            )),
        }
    }
}

impl fmt::Display for KeySetArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_an_issuer_come_by_a_safe_way() {
        let is_ok = |text: &str| text.parse::<KeySetArg>().is_ok();
        for good in [
            "jwks.json",
            "/etc/tq/jwks.json",
            "https://id.example/jwks",
            "http://127.0.0.1:8080/jwks",
            "http://localhost/jwks",
            "http://[::1]:8080/jwks",
        ] {
            assert!(is_ok(good), "{good}");
        }
        for bad in [
            "http://id.example/jwks",
            "http://127.0.0.1.example/jwks",
            "http://localhost.example/jwks",
            "http://localhost:x@evil.example/jwks",
            "https://user@id.example/jwks",
            "https:///jwks",
            "ftp://127.0.0.1/jwks",
        ] {
            assert!(!is_ok(bad), "{bad}");
        }
    }

    #[test]
    fn key_is_read_and_never_printed() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("key");
        fs::write(&path, "tq_0123\n").expect("the folder can be written");
        let file = KeySource::File(path.clone());
        file.bearer().expect("it is there");
        assert_eq!(file.to_string(), path.display().to_string());
        let text = KeySource::Text("tq_0123".to_owned());
        text.bearer().expect("it is a key");
        assert_eq!(format!("{text} {text:?}"), "[redacted] [redacted]");
        fs::write(&path, "two words\n").expect("the folder can be written");
        let refused = file.bearer().expect_err("it is none");
        let expected = format!("error: `{}`: the key is empty or has", path.display());
        assert!(crate::exit::text(&refused.into()).starts_with(&expected));
    }
}
