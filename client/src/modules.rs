//! Calls about modules.

use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use tq_core::limits::{CHUNK_BYTES, MODULE_BYTES_MAX};
use tq_proto::v1::upload_module_request::Part;
use tq_proto::v1::{
    DeleteModuleRequest, FunctionSettings, GetModuleRequest, GetUploadRequest, Grants,
    LimitOverrides, ListModulesRequest, Module, PlacementSettings, RetryOverrides,
    RollbackModuleRequest, UploadHeader, UploadModuleRequest, UploadModuleResponse,
};

use crate::patience::Patience;
use crate::{Client, Code, Error};

/// A component that is to be uploaded. In memory as a whole (a module has at most 64 MiB), so that the bytes that are sent
/// are those that the digest was taken of, even if the file changes meanwhile.
#[derive(Clone, Debug)]
pub struct Component {
    bytes: Bytes,
    digest: [u8; 32],
}

impl Component {
    /// Takes a component from memory.
    ///
    /// # Errors
    /// [`Error::ComponentTooLarge`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Error> {
        check_size(bytes.len() as u64)?;
        let digest = Sha256::digest(&bytes).into();
        Ok(Self { bytes, digest })
    }

    /// Reads a component from a file. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::ComponentTooLarge`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        check_size(std::fs::metadata(path).map_err(unreadable)?.len())?;
        Self::from_bytes(std::fs::read(path).map_err(unreadable)?.into())
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Its SHA-256.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

fn check_size(len: u64) -> Result<(), Error> {
    let max = MODULE_BYTES_MAX as u64;
    if len > max {
        return Err(Error::ComponentTooLarge { len, max });
    }
    Ok(())
}

/// What an upload says beside the component.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    /// The module's name.
    pub name: String,
    /// Limits of every function.
    pub limits: LimitOverrides,
    /// Retry policy of every function.
    pub retry: RetryOverrides,
    /// Functions with settings of their own, and functions that the component does not list itself.
    pub functions: Vec<FunctionSettings>,
    /// Where its functions may run, and beside what.
    pub placement: PlacementSettings,
    /// What its functions may do beside computing.
    pub grants: Grants,
    /// Refuse it if a function would get what it does not have in the current version.
    pub deny_new_grants: bool,
}

impl Upload {
    fn header(&self, namespace: &str, component: &Component, offset: u64) -> UploadHeader {
        let Self {
            name,
            limits,
            retry,
            functions,
            placement,
            grants,
            deny_new_grants,
        } = self.clone();
        UploadHeader {
            namespace: namespace.to_owned(),
            name,
            size_bytes: component.size_bytes(),
            digest: Bytes::copy_from_slice(&component.digest),
            limits: Some(limits),
            retry: Some(retry),
            functions,
            placement: Some(placement),
            grants: Some(grants),
            deny_new_grants,
            offset_bytes: offset,
        }
    }
}

/// Whether an upload ended without an answer, or since what it went on from was gone.
fn is_cut(error: &Error) -> bool {
    error.is_retryable() && !matches!(error, Error::Overloaded { .. })
}

/// How often a broker is asked, with growing pauses, whether it has something of an upload that was cut just now: it may notice
/// later than its client.
const ASKED_MAX: u32 = 5;

impl Client {
    /// Uploads a component as the next version of the module that `upload` names, in chunks of 256 KiB. `progress` is
    /// called with the bytes that were handed to the connection so far. The module is on the broker's disk when this
    /// returns.
    ///
    /// What the broker has of the same component from an upload that was cut is not sent again. If this one is cut, it goes on
    /// by itself, for up to a minute without the broker.
    ///
    /// # Errors
    /// [`Error::Refused`] if the component is not one that tq runs, [`Error::Unreachable`]. Trying again is safe: the same
    /// bytes with the same settings make no second version.
    pub async fn upload_module(
        &self,
        component: Component,
        upload: Upload,
        progress: impl FnMut(u64) + Clone + Send + 'static,
    ) -> Result<UploadModuleResponse, Error> {
        let mut patience = Patience::new();
        let mut offset = self.received(&component).await?;
        loop {
            let header = upload.header(&self.namespace, &component, offset);
            let sent = self.upload_rest(header, component.bytes.clone(), progress.clone());
            let cut = match sent.await {
                Err(error) if is_cut(&error) => error,
                ended => return ended,
            };
            patience.after(cut).await?;
            let received = self.received_by_now(&component, &mut patience).await?;
            if received > offset {
                // However often it is cut, it comes to an end.
                patience = Patience::new();
            }
            offset = received;
        }
    }

    /// Uploads what follows the offset in `header`.
    async fn upload_rest(
        &self,
        header: UploadHeader,
        bytes: Bytes,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<UploadModuleResponse, Error> {
        let mut sent = header.offset_bytes;
        let mut rest = bytes;
        // No more than there is, whatever the broker says that it has.
        let skipped = usize::try_from(sent).map_or(rest.len(), |sent| sent.min(rest.len()));
        drop(rest.split_to(skipped));
        progress(sent);
        let chunks = std::iter::from_fn(move || {
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            sent += chunk.len() as u64;
            progress(sent);
            (!chunk.is_empty()).then_some(Part::Chunk(chunk))
        });
        let parts = std::iter::once(Part::Header(header))
            .chain(chunks)
            .map(|part| UploadModuleRequest { part: Some(part) });
        let answer = self
            .module_service()
            .upload_module(stream::iter(parts))
            .await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// How many bytes the broker has of a component whose upload was cut. What is a chunk or less is not worth the question.
    async fn received(&self, component: &Component) -> Result<u64, Error> {
        if component.bytes.len() <= CHUNK_BYTES {
            return Ok(0);
        }
        let request = GetUploadRequest {
            namespace: self.namespace.to_string(),
            digest: Bytes::copy_from_slice(&component.digest),
            size_bytes: component.size_bytes(),
        };
        match self.module_service().get_upload(request).await {
            Ok(answer) => Ok(answer.into_inner().received_bytes),
            // A broker from before there was such a call keeps nothing.
            Err(status) if status.code() == Code::Unimplemented => Ok(0),
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// As [`Client::received`], right after it was cut.
    async fn received_by_now(
        &self,
        component: &Component,
        patience: &mut Patience,
    ) -> Result<u64, Error> {
        let mut asked = 0;
        loop {
            match self.received(component).await {
                Ok(0) if asked < ASKED_MAX && component.bytes.len() > CHUNK_BYTES => {
                    asked += 1;
                    patience.wait().await;
                }
                Ok(received) => return Ok(received),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// One module: the current version of `NAME`, or `NAME@VERSION`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn module(&self, name: &str) -> Result<Module, Error> {
        let request = GetModuleRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.module_service().get_module(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// The current versions of all modules, by name.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn modules(&self) -> Result<Vec<Module>, Error> {
        let request = ListModulesRequest {
            namespace: self.namespace.to_string(),
        };
        let answer = self.module_service().list_modules(request).await;
        Ok(answer
            .map_err(|status| self.refusal(&status))?
            .into_inner()
            .modules)
    }

    /// Points a module's name at an earlier version; 0 is the one before the current. Tasks submitted before keep theirs.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such module or version, [`Error::Refused`], [`Error::Unreachable`].
    pub async fn rollback_module(&self, name: &str, version: u32) -> Result<Module, Error> {
        let request = RollbackModuleRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
            version,
        };
        let answer = self.module_service().rollback_module(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Deletes a version of a module, or with 0 all of them and the name. Returns how many versions are gone, on disk.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such module or version, [`Error::Refused`] if it is the current version or tasks
    /// need it, [`Error::Unreachable`].
    pub async fn delete_module(&self, name: &str, version: u32) -> Result<u32, Error> {
        let request = DeleteModuleRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
            version,
        };
        let answer = self.module_service().delete_module(request).await;
        let deleted = answer.map_err(|status| self.refusal(&status))?.into_inner();
        Ok(deleted.versions)
    }
}
