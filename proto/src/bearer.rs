//! How a caller says who it is: by a credential in each request.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Bytes that are read of a file with a key. Tokens are the longest, and brokers take none that is longer.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Sends a credential along with every request, or nothing if there is none. It is not printed. Its clones have the same one.
#[derive(Clone, Default)]
pub struct Bearer {
    value: Arc<RwLock<Option<MetadataValue<Ascii>>>>,
    file: Option<PathBuf>,
    may_be_read: bool,
}

/// A text that cannot be a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key is empty or has characters that no key has; it is one line, as `tq key create` prints it"
)]
pub struct NoCredential;

/// A credential would go where others may read it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key would go to `{to}` without TLS, so that others on the way could read it")]
pub struct InTheClear {
    /// The address.
    pub to: String,
}

impl Bearer {
    /// Sends this key or token.
    ///
    /// # Errors
    /// [`NoCredential`] if it cannot be sent.
    pub fn new(credential: &str) -> Result<Self, NoCredential> {
        Ok(Self {
            value: Arc::new(RwLock::new(Some(header(credential)?))),
            ..Self::default()
        })
    }

    /// Says in which file the credential is, for [`Bearer::read_again`].
    #[must_use]
    pub fn of_file(self, file: &Path) -> Self {
        Self {
            file: Some(file.to_owned()),
            ..self
        }
    }

    /// Lets it go over networks without TLS: they are private, or what is on the way speaks TLS.
    #[must_use]
    pub fn in_the_clear(self) -> Self {
        Self {
            may_be_read: true,
            ..self
        }
    }

    /// Whether it may go to this address: by TLS, or within this machine, unless it may be [read](Self::in_the_clear).
    ///
    /// # Errors
    /// [`InTheClear`] if not.
    pub fn check(&self, to: &Uri) -> Result<(), InTheClear> {
        let is_safe = to.scheme_str() == Some("https") || to.host().is_some_and(is_loopback);
        let is_there = self.value().is_some();
        match is_safe || self.may_be_read || !is_there {
            true => Ok(()),
            false => Err(InTheClear { to: to.to_string() }),
        }
    }

    /// Takes the credential that is in its file by now. Says whether that is another one; one that cannot be read is not. Blocks for as
    /// long as the file takes.
    pub fn read_again(&self) -> bool {
        let mut text = String::new();
        let file = self.file.as_ref().and_then(|path| File::open(path).ok());
        let read = file.map(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        let (Some(Ok(_)), Ok(new)) = (read, header(text.trim())) else {
            return false;
        };
        let mut value = self.value.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = value.as_ref() != Some(&new);
        *value = Some(new);
        is_other
    }

    fn value(&self) -> Option<MetadataValue<Ascii>> {
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        value.clone()
    }
}

fn header(credential: &str) -> Result<MetadataValue<Ascii>, NoCredential> {
    if credential.is_empty() || !credential.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(NoCredential);
    }
    let value = format!("Bearer {credential}").parse();
    let mut value: MetadataValue<Ascii> = value.map_err(|_| NoCredential)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether the host of an address is this machine: an IP address of loopback, in brackets if it is of version 6, or `localhost`.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address: Option<IpAddr> = bare.unwrap_or(host).parse().ok();
    host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.value() {
            Some(_) => "Bearer([redacted])",
            None => "Bearer(none)",
        })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = self.value() {
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_is_one_word_and_is_not_printed() {
        let bearer = Bearer::new("tq_0123").unwrap();
        assert!(!format!("{bearer:?}").contains("0123"));
        for wrong in ["", " ", "a b", "a\nb", "ä", "a\n"] {
            assert_eq!(Bearer::new(wrong).err(), Some(NoCredential), "{wrong:?}");
        }
    }

    #[test]
    fn credential_goes_by_tls_or_stays_on_the_machine() {
        let bearer = Bearer::new("tq_0123").unwrap();
        let goes = |bearer: &Bearer, to: &str| bearer.check(&to.parse().unwrap()).is_ok();
        for safe in [
            "https://tq.example.com:7171",
            "http://127.0.0.1:7171",
            "http://127.8.9.1:7171",
            "http://[::1]:7171",
            "http://localhost:7171",
        ] {
            assert!(goes(&bearer, safe), "{safe}");
        }
        for open in [
            "http://tq.example.com:7171",
            "http://10.0.0.7:7171",
            "http://[fe80::1]:7171",
            "http://localhost.example.com:7171",
            "http://localhost:x@tq.example.com:7171",
        ] {
            assert!(!goes(&bearer, open), "{open}");
            assert!(goes(&bearer.clone().in_the_clear(), open), "{open}");
            assert!(goes(&Bearer::default(), open), "there is nothing to read");
        }
    }

    #[test]
    fn another_key_in_the_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "tq_1\n").unwrap();
        let bearer = Bearer::new("tq_1").unwrap().of_file(&file);
        let clone = bearer.clone();
        assert!(!bearer.read_again());
        std::fs::write(&file, "tq_2\n").unwrap();
        assert!(bearer.read_again());
        assert_eq!(clone.value().unwrap(), "Bearer tq_2");
        for useless in ["", "two words"] {
            std::fs::write(&file, useless).unwrap();
            assert!(!bearer.read_again(), "{useless}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(!bearer.read_again());
        assert_eq!(clone.value().unwrap(), "Bearer tq_2");
    }
}
