//! Signatures after the Standard Webhooks specification 1.0 (<https://www.standardwebhooks.com>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Between the 24 and 64 bytes that the specification asks for.
const SECRET_LEN: usize = 32;

/// What a webhook signs with.
pub(crate) struct Secret(Vec<u8>);

/// The operating system gives no randomness.
#[derive(Debug, thiserror::Error)]
#[error("failed to get random bytes")]
pub(crate) struct NoRandom;

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub(crate) fn draw() -> Result<Self, NoRandom> {
        let mut secret = vec![0; SECRET_LEN];
        let drawn = SystemRandom::new().fill(&mut secret);
        drawn.map_err(|_| NoRandom)?;
        Ok(Self(secret))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As libraries take it.
    pub(crate) fn text(&self) -> String {
        format!("whsec_{}", STANDARD.encode(&self.0))
    }

    /// What `webhook-signature` says of a request.
    pub(crate) fn sign(&self, id: &str, timestamp_secs: u64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut signing = hmac::Context::with_key(&key);
        signing.update(format!("{id}.{timestamp_secs}.").as_bytes());
        signing.update(body);
        format!("v1,{}", STANDARD.encode(signing.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn signature_is_that_of_the_specification() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let secret = Secret::from_bytes(&secret);
        assert_eq!(secret.text(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_differ() {
        let (one, other) = (Secret::draw().unwrap(), Secret::draw().unwrap());
        assert_ne!(one.text(), other.text());
    }
}
