//! `tq:task/secrets`: values that the function was granted to read.

use super::bindings::tq::task::secrets::{self, SecretError};
use crate::sandbox::Guest;
use crate::services::Refusal;

impl secrets::Host for Guest {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<Vec<u8>, SecretError>> {
        let got = match (name.parse(), &self.services) {
            (Ok(name), Some(services)) => services.secret(self.attempt.epoch, name).await,
            (Err(error), _) => Err(Refusal::NotGranted(format!("{error}"))),
            (Ok(name), None) => Err(Refusal::not_granted(&name)),
        };
        Ok(got.map(|value| value.to_vec()).map_err(|refusal| {
            if matches!(refusal, Refusal::NotGranted(_)) {
                let line = format!("tq: a secret was refused: {refusal}\n");
                self.outbox.log(line.as_bytes());
            }
            match refusal {
                Refusal::NotGranted(message) => SecretError::NotGranted(message),
                Refusal::Missing(message) => SecretError::Missing(message),
                Refusal::Invalid(message) | Refusal::Unavailable(message) => {
                    SecretError::Unavailable(message)
                }
            }
        }))
    }
}
