//! Calls about modules.

use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use tq_core::limits::{CHUNK_BYTES, MODULE_BYTES_MAX};
use tq_proto::v1::upload_module_request::Part;
use tq_proto::v1::{
    DeleteModuleRequest, FunctionSettings, GetModuleRequest, Grants, LimitOverrides,
    ListModulesRequest, Module, PlacementSettings, RetryOverrides, RollbackModuleRequest,
    UploadHeader, UploadModuleRequest, UploadModuleResponse,
};

use crate::{Client, Error};

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

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
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

impl Client {
    /// Uploads a component as the next version of the module that `upload` names, in chunks of 256 KiB. `progress` is
    /// called with the bytes that were handed to the connection so far. The module is on the broker's disk when this
    /// returns.
    ///
    /// # Errors
    /// [`Error::Refused`] if the component is not one that tq runs, [`Error::Unreachable`]. Trying again is safe: the same
    /// bytes with the same settings make no second version.
    pub async fn upload_module(
        &self,
        component: Component,
        upload: Upload,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<UploadModuleResponse, Error> {
        let Upload {
            name,
            limits,
            retry,
            functions,
            placement,
            grants,
            deny_new_grants,
        } = upload;
        let header = UploadHeader {
            namespace: self.namespace.to_string(),
            name,
            size_bytes: component.size_bytes(),
            digest: Bytes::copy_from_slice(&component.digest),
            limits: Some(limits),
            retry: Some(retry),
            functions,
            placement: Some(placement),
            grants: Some(grants),
            deny_new_grants,
        };
        let mut rest = component.bytes;
        let mut sent = 0;
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
