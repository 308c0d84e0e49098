//! Calls about dead letters.

use bytes::Bytes;
use tq_proto::v1::{
    CrashCard, DeadLetterFilter, DiscardDeadLettersRequest, DiscardDeadLettersResponse,
    GetDeadLetterRequest, ListDeadLettersRequest, ListDeadLettersResponse, ListSignaturesRequest,
    ListSignaturesResponse, RedriveDeadLettersRequest, RedriveDeadLettersResponse,
    RedriveWithPayloadRequest, Task,
};

use crate::{Client, Error};

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadLetters {
    /// One, by its id.
    One(String),
    /// All that match. One that names nothing is refused.
    Matching(DeadLetterFilter),
    /// Every one of the namespace.
    All,
}

impl DeadLetters {
    /// As requests name them: an id, a filter, or all.
    fn parts(self) -> (String, Option<DeadLetterFilter>, bool) {
        match self {
            Self::One(id) => (id, None, false),
            Self::Matching(filter) => (String::new(), Some(filter), false),
            Self::All => (String::new(), None, true),
        }
    }
}

/// How dead letters are redriven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedriveOptions {
    /// Only say which ones would be.
    pub dry_run: bool,
    /// Under the version that they died with, and the limits that it had; otherwise the module's current one.
    pub same_version: bool,
}

impl Client {
    /// One page of dead letters, those that died last first. `limit` is at most 1,000, and 0 is 100; `cursor` is the `next` of
    /// the page before, or empty. A page may have fewer than asked for, or none, and yet a next one.
    ///
    /// # Errors
    /// [`Error::Refused`] for a filter or a cursor that is none, [`Error::Unreachable`].
    pub async fn dead_letter_page(
        &self,
        filter: DeadLetterFilter,
        limit: u32,
        cursor: &str,
    ) -> Result<ListDeadLettersResponse, Error> {
        let request = ListDeadLettersRequest {
            namespace: self.namespace.to_string(),
            filter: Some(filter),
            limit,
            cursor: cursor.to_owned(),
        };
        let answer = self.dead_letters().list_dead_letters(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// One page of the ways in which tasks died, at most 100, in the order of their signatures. `cursor` is the `next` of the
    /// page before, or empty.
    ///
    /// # Errors
    /// [`Error::Refused`] for a cursor that is none, [`Error::Unreachable`].
    pub async fn signature_page(&self, cursor: &str) -> Result<ListSignaturesResponse, Error> {
        let request = ListSignaturesRequest {
            namespace: self.namespace.to_string(),
            limit: 0,
            cursor: cursor.to_owned(),
        };
        let answer = self.dead_letters().list_signatures(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// All that helps to understand why a task died.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] if it is not dead, [`Error::Unreachable`].
    pub async fn crash_card(&self, id: &str) -> Result<CrashCard, Error> {
        let request = GetDeadLetterRequest {
            namespace: self.namespace.to_string(),
            id: id.to_owned(),
        };
        let answer = self.dead_letters().get_dead_letter(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Gives dead letters another round of attempts, at most 500 in one call: `cursor` is the `next` of the call before, or
    /// empty, and always empty for one. Those that a call names are redriven, on disk, when it returns.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Refused`] if one that is named is not there or not dead, [`Error::Refused`] for a
    /// filter or a cursor that is none, [`Error::Unreachable`].
    pub async fn redrive_dead_letters(
        &self,
        which: DeadLetters,
        options: RedriveOptions,
        cursor: &str,
    ) -> Result<RedriveDeadLettersResponse, Error> {
        let RedriveOptions {
            dry_run,
            same_version,
        } = options;
        let (id, filter, all) = which.parts();
        let request = RedriveDeadLettersRequest {
            namespace: self.namespace.to_string(),
            id,
            filter,
            all,
            dry_run,
            same_version,
            limit: 0,
            cursor: cursor.to_owned(),
        };
        let answer = self.dead_letters().redrive_dead_letters(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Removes dead letters for good, at most 500 in one call: `cursor` is the `next` of the call before, or empty, and always
    /// empty for one. They are off the disk when it returns.
    ///
    /// # Errors
    /// As [`Client::redrive_dead_letters`].
    pub async fn discard_dead_letters(
        &self,
        which: DeadLetters,
        dry_run: bool,
        cursor: &str,
    ) -> Result<DiscardDeadLettersResponse, Error> {
        let (id, filter, all) = which.parts();
        let request = DiscardDeadLettersRequest {
            namespace: self.namespace.to_string(),
            id,
            filter,
            all,
            dry_run,
            limit: 0,
            cursor: cursor.to_owned(),
        };
        let answer = self.dead_letters().discard_dead_letters(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Submits the call of a dead letter again as a new task, with another payload, and returns the new one. It is on disk then;
    /// the dead letter stays as it is. If the connection is lost, the task may have been submitted or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] if it is not dead or the payload is too large, [`Error::Unreachable`].
    pub async fn redrive_with_payload(
        &self,
        id: &str,
        payload: Bytes,
        content_type: &str,
        same_version: bool,
    ) -> Result<Task, Error> {
        let request = RedriveWithPayloadRequest {
            namespace: self.namespace.to_string(),
            id: id.to_owned(),
            payload,
            content_type: content_type.to_owned(),
            same_version,
        };
        let answer = self.dead_letters().redrive_with_payload(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }
}
