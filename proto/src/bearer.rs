//! How a caller says who it is: by a credential in each request.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Sends a credential along with every request, or nothing if there is none. It is not printed.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

/// A text that cannot be a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key is empty or has characters that no key has; it is one line, as `tq key create` prints it"
)]
pub struct NoCredential;

impl Bearer {
    /// Sends this key or token.
    ///
    /// # Errors
    /// [`NoCredential`] if it cannot be sent.
    pub fn new(credential: &str) -> Result<Self, NoCredential> {
        if credential.is_empty() || !credential.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoCredential);
        }
        let value = format!("Bearer {credential}").parse();
        let mut value: MetadataValue<Ascii> = value.map_err(|_| NoCredential)?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Bearer([redacted])",
            None => "Bearer(none)",
        })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
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
}
