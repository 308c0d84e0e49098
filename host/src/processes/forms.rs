//! Compiled forms, for runner processes to load. The agent itself never does.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tq_core::Digest;
use tq_core::limits::RUNNER_START_WAIT;

use super::orders::{Item, Orders};
use super::process::Spawner;
use super::wire::{Told, Violation};
use crate::component::{LinkError, Load, PrepareError};
use crate::sandbox::{EngineError, Layout, compiler, engine_key};

/// A compiled form on this host's disk, which was authenticated.
#[derive(Debug)]
pub(crate) struct Form {
    pub(super) digest: Digest,
    /// Stays readable when its name is gone.
    pub(super) file: File,
    pub(super) size_bytes: u64,
}

/// Has components loaded by runner processes.
#[derive(Clone)]
pub(crate) struct Forms {
    spawner: Spawner,
    layout: Layout,
    engine_key: [u8; 8],
}

impl Forms {
    pub(super) fn new(spawner: Spawner, layout: Layout) -> Result<Self, EngineError> {
        Ok(Self {
            spawner,
            layout,
            engine_key: engine_key(&compiler(layout)?),
        })
    }

    async fn try_out(&self, form: &Arc<Form>) -> Result<(), PrepareError> {
        let failed = |error: &dyn std::error::Error| PrepareError::Load(error.to_string());
        let started = self.spawner.start().await;
        let (mut process, _) = started.map_err(|error| failed(&error))?;
        let orders = Orders::default();
        orders.push(Item::Load(Arc::clone(form)));
        orders.close();
        let pipe = process.orders.take();
        let sending = async {
            if let Some(pipe) = pipe {
                // One that has died says so by saying nothing.
                orders.send(pipe).await.ok();
            }
        };
        let ((), told) = tokio::join!(sending, process.told.next());
        match told {
            Ok(Some(Told::Loaded(loaded))) => match loaded.error {
                None => Ok(()),
                Some(message) if loaded.is_permanent => Err(LinkError::Import(message).into()),
                Some(message) => Err(PrepareError::Load(message)),
            },
            Ok(Some(_)) => Err(failed(&Violation::OutOfPlace(
                "it speaks of something else",
            ))),
            Ok(None) => Err(PrepareError::Load(format!(
                "the process that loaded it has crashed: {}",
                process.end().await.0
            ))),
            Err(violation) => Err(failed(&violation)),
        }
    }
}

impl Load for Forms {
    type Loaded = Form;

    fn layout(&self) -> Layout {
        self.layout
    }

    fn engine_key(&self) -> [u8; 8] {
        self.engine_key
    }

    fn load(&self, digest: Digest, path: &Path) -> Result<Form, PrepareError> {
        let opened = File::open(path).and_then(|file| {
            let size_bytes = file.metadata()?.len();
            Ok(Form {
                digest,
                file,
                size_bytes,
            })
        });
        opened.map_err(PrepareError::Store)
    }

    /// A process of its own links it, and ends.
    async fn check(&self, form: &Arc<Form>) -> Result<(), PrepareError> {
        match tokio::time::timeout(RUNNER_START_WAIT, self.try_out(form)).await {
            Ok(checked) => checked,
            Err(_) => Err(PrepareError::Load(format!(
                "loading it took more than {RUNNER_START_WAIT:?}"
            ))),
        }
    }
}
