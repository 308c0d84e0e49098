//! The whole life of a runner process.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd, RawFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc::{Receiver, Sender};
use tq_core::limits::{COMPILED_BYTES_MAX, RUNNER_FILES_MAX};
use tq_core::{Digest, Epoch, Outcome};
use tq_proto::v1::Assignment;

use super::asking::Asking;
use super::process::note_begun;
use super::wire::{
    LoadForm, Loaded, ORDER_BYTES_MAX, Order, Ready as IsReady, ToRunner, put_event, put_loaded,
    put_ready, take_frame,
};
use crate::agent::convert::{self, Resolved};
use crate::component::{PrepareError, Ready};
use crate::confine::{self, close_inherited};
use crate::runner::{Config, Event, Finished, Pool};
use crate::sandbox::Engine;

/// Events are gathered into writes of about so many bytes.
const WRITE_BYTES: usize = 64 << 10;
/// What is read at once.
const READ_BYTES: usize = 64 << 10;

/// The whole of a runner process: confines itself, reads orders from standard input and writes what becomes of them to
/// standard output, until the input ends. `arguments` are those that the host appends to its own.
#[must_use]
pub fn run_child(arguments: &[OsString]) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Nobody is there to be told if this fails; the exit code says it too.
            std::io::stderr().write_all(message.as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}

type Failed = String;

fn failed(error: impl std::fmt::Display) -> Failed {
    error.to_string()
}

fn run(arguments: &[OsString]) -> Result<(), Failed> {
    let (config, begun) = parse(arguments)?;
    ignore_signals();
    close_inherited(&[begun]).map_err(|error| format!("inherited descriptors: {error}"))?;
    #[expect(
        unsafe_code,
        reason = "a descriptor that is inherited has no other form"
    )]
    // SAFETY: the host left it open for this process, in which nothing else knows of it.
    let begun = unsafe { OwnedFd::from_raw_fd(begun) };
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let own = |stream: &dyn AsFd| stream.as_fd().try_clone_to_owned().map_err(failed);
    let (input, output) = (own(&input)?, own(&output)?);
    bound()?;
    let output = Arc::new(Output(Mutex::new(File::from(output))));
    let asking = Asking::new(Arc::clone(&output));
    let engine = Engine::new(config.slots).map_err(failed)?;
    let engine = engine.with_egress(Arc::new(asking.clone()));
    let engine = engine.with_services(Arc::new(asking.clone()));
    let confined = confine::runner().map_err(failed)?;
    let began = move |slot, epoch| note_begun(&begun, slot, epoch);
    let (pool, events) = Pool::start_telling(config, &engine, began).map_err(failed)?;
    output.put(|buffer| {
        let ready = IsReady {
            layout: engine.layout().to_string(),
            missing: confined.missing().to_vec(),
        };
        put_ready(ready, buffer);
    });
    let ends = pool.events();
    std::thread::Builder::new()
        .name("tq-tell".to_owned())
        .spawn({
            let output = Arc::clone(&output);
            move || tell(events, &output)
        })
        .map_err(failed)?;
    let runner = Runner {
        engine,
        pool,
        ends,
        output,
        asking,
        components: HashMap::default(),
        is_named: false,
    };
    runner.obey(File::from(input))
}

fn parse(arguments: &[OsString]) -> Result<(Config, RawFd), Failed> {
    let usage = || "usage: SLOTS QUEUE_MAX DESCRIPTOR".to_owned();
    let [slots, queue_max, begun] = arguments else {
        return Err(usage());
    };
    let text = |argument: &OsString| argument.to_str().map(str::to_owned).ok_or_else(usage);
    let config = Config {
        slots: text(slots)?.parse().map_err(failed)?,
        queue_max: text(queue_max)?.parse().map_err(failed)?,
    };
    Ok((config, text(begun)?.parse().map_err(failed)?))
}

/// A service manager signals all processes of a host that it stops. The host answers for this one, and ends it.
fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        #[expect(unsafe_code, reason = "the standard library does not set signals")]
        // SAFETY: to ignore a signal runs no code of ours.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

fn bound() -> Result<(), Failed> {
    let limit = getrlimit(Resource::Nofile).maximum;
    let files = limit.map_or(RUNNER_FILES_MAX, |limit| limit.min(RUNNER_FILES_MAX));
    let files = Rlimit {
        current: Some(files),
        maximum: Some(files),
    };
    setrlimit(Resource::Nofile, files).map_err(|error| format!("open files: {error}"))?;
    // Where memory is short, this one goes before its host and what else runs there. Some containers do not say.
    std::fs::write("/proc/self/oom_score_adj", "500").ok();
    Ok(())
}

/// The pipe to the host. Frames are written whole.
pub(super) struct Output(Mutex<File>);

impl Output {
    /// Writes what is put into a buffer.
    pub(super) fn put(&self, put: impl FnOnce(&mut BytesMut)) {
        let mut buffer = BytesMut::new();
        put(&mut buffer);
        self.write(&buffer);
    }

    fn write(&self, bytes: &[u8]) {
        let mut pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pipe.write_all(bytes).is_err() {
            // The host is gone, and with it the purpose of this process.
            std::process::exit(0);
        }
    }
}

/// Tells the host what becomes of attempts.
fn tell(mut events: Receiver<Event>, output: &Output) {
    let mut buffer = BytesMut::with_capacity(2 * WRITE_BYTES);
    while let Some(event) = events.blocking_recv() {
        put_event(event, &mut buffer);
        while buffer.len() < WRITE_BYTES
            && let Ok(event) = events.try_recv()
        {
            put_event(event, &mut buffer);
        }
        output.write(&buffer);
        buffer.clear();
    }
}

struct Runner {
    engine: Engine,
    pool: Pool,
    ends: Sender<Event>,
    output: Arc<Output>,
    asking: Asking,
    /// What was to be loaded, or why it could not be.
    components: HashMap<Digest, Result<Arc<Ready>, String>>,
    is_named: bool,
}

impl Runner {
    /// Obeys orders until there are no more. What still runs then has nobody who wants it.
    fn obey(mut self, mut input: File) -> Result<(), Failed> {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        loop {
            while let Some(frame) = take_frame(&mut buffer, ORDER_BYTES_MAX).map_err(failed)? {
                let order = <ToRunner as prost::Message>::decode(frame).map_err(failed)?;
                match order.order {
                    Some(Order::Load(form)) => self.load(&form, &mut buffer, &mut input)?,
                    Some(Order::Run(assignment)) => self.run(*assignment),
                    Some(Order::Stop(stop)) => {
                        if let Some(unrun) = self.pool.stop(Epoch(stop.epoch), stop.why()) {
                            self.ended(unrun);
                        }
                    }
                    Some(Order::HandBack(())) => {
                        for epoch in self.pool.take_back() {
                            self.ended(Finished::handed_back(epoch));
                        }
                    }
                    Some(Order::Answer(answer)) => self.asking.answered(answer),
                    Some(Order::Return(returned)) => self.asking.returned(returned),
                    Some(Order::Tcp(answer)) => self.asking.tcp().answered(answer),
                    None => return Err("an order is empty".to_owned()),
                }
            }
            if read_some(&mut buffer, &mut input)? == 0 {
                return Ok(());
            }
        }
    }

    /// Loads what follows in the input.
    fn load(
        &mut self,
        form: &LoadForm,
        buffer: &mut BytesMut,
        input: &mut File,
    ) -> Result<(), Failed> {
        let digest = convert::digest(&form.digest)?;
        if form.size_bytes > COMPILED_BYTES_MAX {
            let len = form.size_bytes;
            return Err(format!("a compiled form has {len} bytes"));
        }
        let len = usize::try_from(form.size_bytes).map_err(failed)?;
        let mut compiled = vec![0; len];
        let (there, missing) = compiled.split_at_mut(len.min(buffer.len()));
        there.copy_from_slice(&buffer.split_to(there.len()));
        input.read_exact(missing).map_err(failed)?;
        #[expect(
            unsafe_code,
            reason = "the engine cannot check native code; the host has"
        )]
        // SAFETY: the host sends what its compiler made for an engine like this one, after it has found the keyed hash in the
        // file's name to hold. Nobody else holds the other end of the pipe.
        let loaded = unsafe { Ready::from_bytes(&self.engine, digest, &compiled) };
        let told = match &loaded {
            Ok(_) => Loaded::default(),
            Err(error) => Loaded {
                error: Some(error.to_string()),
                is_permanent: matches!(error, PrepareError::Link(_)),
            },
        };
        self.output.put(|buffer| put_loaded(told, buffer));
        let kept = loaded.map(Arc::new).map_err(failed);
        self.components.insert(digest, kept);
        Ok(())
    }

    fn run(&mut self, assignment: Assignment) {
        if !std::mem::replace(&mut self.is_named, true) {
            // For operators who look at processes. The kernel keeps fifteen bytes of it.
            let name = format!("tq:{}", assignment.namespace);
            if let Ok(name) = std::ffi::CString::new(name) {
                rustix::thread::set_name(&name).ok();
            }
        }
        let epoch = Epoch(assignment.epoch);
        if let Err(message) = self.try_run(assignment) {
            self.ended(Finished::unrun(epoch, Outcome::HostError, message));
        }
    }

    fn try_run(&self, assignment: Assignment) -> Result<(), String> {
        let digest = convert::digest(&assignment.digest)?;
        let component = match self.components.get(&digest) {
            Some(Ok(component)) => Arc::clone(component),
            Some(Err(message)) => return Err(message.clone()),
            None => return Err(format!("module `{digest}` was not loaded")),
        };
        let attempt = convert::attempt(Resolved {
            assignment,
            component,
        })?;
        let refused = |refused: crate::runner::Refused| refused.to_string();
        self.pool.run(Box::new(attempt)).map_err(refused)
    }

    fn ended(&self, finished: Finished) {
        // It fails only when nothing is told any more.
        self.ends
            .blocking_send(Event::Finished(Box::new(finished)))
            .ok();
    }
}

/// Appends what there is to be read, and returns how many bytes that were; none if there will never be any.
fn read_some(buffer: &mut BytesMut, input: &mut File) -> Result<usize, Failed> {
    let start = buffer.len();
    buffer.resize(start + READ_BYTES, 0);
    loop {
        match input.read(&mut buffer[start..]) {
            Ok(read) => {
                buffer.truncate(start + read);
                return Ok(read);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
