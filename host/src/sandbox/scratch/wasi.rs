//! `wasi:filesystem` over the files of an attempt.
//!
//! The bindings are the engine's, so that guests link as they do with its own file systems. They name its types for descriptors and
//! listings, which here are no more than names: behind each is one of ours in the attempt's table.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
// Of the two, those whose functions do not wait: nothing here does.
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    self, Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::fault::Fault;
use super::streams::{Reader, Writer};
use super::tree::{NodeId, Open, ROOT, Stat};
use super::{Handle, PATH, Scratch};
use crate::sandbox::Guest;

/// The files of a guest, as one of its calls sees them.
pub(in crate::sandbox) struct View<'a> {
    /// None if no directory was granted. Then there is no descriptor to begin with.
    pub(in crate::sandbox) scratch: Option<&'a Arc<Scratch>>,
    pub(in crate::sandbox) table: &'a mut ResourceTable,
}

/// What a descriptor of the guest stands for.
struct Opened {
    handle: Handle,
    flags: DescriptorFlags,
}

/// How far a guest has listed a directory.
struct Listing {
    directory: Handle,
    last: Option<Box<str>>,
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = View<'a>;
}

/// Links these files, in the place of the engine's.
///
/// # Errors
/// If something is there twice.
pub(in crate::sandbox) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasFiles>(linker, Guest::files)?;
    preopens::add_to_linker::<_, HasFiles>(linker, Guest::files)
}

/// All directories may be changed: runtimes do not ask for it when they open one.
fn of_directory() -> DescriptorFlags {
    DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY
}

impl Opened {
    fn scratch(&self) -> &Arc<Scratch> {
        &self.handle.scratch
    }

    fn stat(&self) -> Result<Stat, Fault> {
        self.scratch().tree().stat(self.handle.node)
    }

    /// The file, if it may be read. What was opened for neither may be.
    fn readable(&self) -> Result<NodeId, Fault> {
        let is_readable = self.flags.contains(DescriptorFlags::READ)
            || !self.flags.contains(DescriptorFlags::WRITE);
        self.file(is_readable)
    }

    /// The file, if it may be written to.
    fn writable(&self) -> Result<NodeId, Fault> {
        self.file(self.flags.contains(DescriptorFlags::WRITE))
    }

    fn file(&self, may: bool) -> Result<NodeId, Fault> {
        match (self.stat()?.is_directory, may) {
            (true, _) => Err(Fault::IsDirectory),
            (false, false) => Err(Fault::BadDescriptor),
            (false, true) => Ok(self.handle.node),
        }
    }
}

impl View<'_> {
    fn get(&self, descriptor: &Resource<Descriptor>) -> FsResult<&Opened> {
        let ours = Resource::new_borrow(descriptor.rep());
        Ok(self.table.get(&ours)?)
    }

    fn push(&mut self, handle: Handle, flags: DescriptorFlags) -> FsResult<Resource<Descriptor>> {
        let ours: Resource<Opened> = self.table.push(Opened { handle, flags })?;
        Ok(Resource::new_own(ours.rep()))
    }
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let Some(scratch) = self.scratch else {
            return Ok(Vec::new());
        };
        let root = Handle::new(scratch, ROOT);
        let ours: Resource<Opened> = self.table.push(Opened {
            handle: root,
            flags: of_directory(),
        })?;
        Ok(vec![(Resource::new_own(ours.rep()), PATH.to_owned())])
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        Ok(error.downcast()?.into())
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let fault = self.table.get(&error)?.downcast_ref::<Fault>();
        Ok(fault.map(|fault| fault.code().into()))
    }
}

impl types::HostDescriptor for View<'_> {
    fn read_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let opened = self.get(&descriptor)?;
        opened.readable()?;
        let stream: DynInputStream = Box::new(Reader {
            file: opened.handle.clone(),
            position: offset,
        });
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&descriptor, Some(offset))
    }

    fn append_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&descriptor, None)
    }

    /// There is nothing to prepare for.
    fn advise(
        &mut self,
        descriptor: Resource<Descriptor>,
        _offset: Filesize,
        _len: Filesize,
        _advice: Advice,
    ) -> FsResult<()> {
        self.get(&descriptor)?.file(true)?;
        Ok(())
    }

    /// There is no disk.
    fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.sync(descriptor)
    }

    fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.get(&descriptor)?;
        Ok(())
    }

    fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        Ok(self.get(&descriptor)?.flags)
    }

    fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        let stat = self.get(&descriptor)?.stat()?;
        Ok(kind(stat.is_directory))
    }

    fn set_size(&mut self, descriptor: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let opened = self.get(&descriptor)?;
        let (file, scratch) = (opened.writable()?, opened.scratch());
        let now = scratch.now();
        Ok(scratch.tree().resize(file, size, now)?)
    }

    fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let opened = self.get(&descriptor)?;
        Ok(set_times(
            opened.scratch(),
            opened.handle.node,
            accessed,
            modified,
        )?)
    }

    fn read(
        &mut self,
        descriptor: Resource<Descriptor>,
        len: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let opened = self.get(&descriptor)?;
        let file = opened.readable()?;
        let bytes = opened.scratch().tree().read(file, offset, len)?;
        let is_end = bytes.is_empty();
        Ok((bytes, is_end))
    }

    fn write(
        &mut self,
        descriptor: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let opened = self.get(&descriptor)?;
        let (file, scratch) = (opened.writable()?, opened.scratch());
        let now = scratch.now();
        let written = scratch.tree().write(file, Some(offset), &bytes, now)?;
        Ok(written as u64)
    }

    fn read_directory(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let opened = self.get(&descriptor)?;
        if !opened.stat()?.is_directory {
            return Err(Fault::NotDirectory.into());
        }
        let directory = opened.handle.clone();
        let ours: Resource<Listing> = self.table.push(Listing {
            directory,
            last: None,
        })?;
        Ok(Resource::new_own(ours.rep()))
    }

    fn create_directory_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let opened = self.get(&descriptor)?;
        let now = opened.scratch().now();
        let mut tree = opened.scratch().tree();
        Ok(tree.make_directory(opened.handle.node, &path, now)?)
    }

    fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        Ok(known(self.get(&descriptor)?.stat()?))
    }

    fn stat_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        let opened = self.get(&descriptor)?;
        let tree = opened.scratch().tree();
        let node = tree.find(opened.handle.node, &path)?;
        Ok(known(tree.stat(node)?))
    }

    fn set_times_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let opened = self.get(&descriptor)?;
        let node = opened.scratch().tree().find(opened.handle.node, &path)?;
        Ok(set_times(opened.scratch(), node, accessed, modified)?)
    }

    fn link_at(
        &mut self,
        _old: Resource<Descriptor>,
        _flags: PathFlags,
        _old_path: String,
        _new: Resource<Descriptor>,
        _new_path: String,
    ) -> FsResult<()> {
        Err(Fault::Unsupported.into())
    }

    fn open_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let opened = self.get(&descriptor)?;
        let open = Open {
            is_created: how.contains(OpenFlags::CREATE),
            is_new: how.contains(OpenFlags::EXCLUSIVE),
            is_truncated: how.contains(OpenFlags::TRUNCATE),
            is_directory: how.contains(OpenFlags::DIRECTORY),
            is_written: flags.contains(DescriptorFlags::WRITE),
        };
        let scratch = Arc::clone(opened.scratch());
        let now = scratch.now();
        let mut tree = scratch.tree();
        let node = tree.open(opened.handle.node, &path, open, now)?;
        let flags = match tree.stat(node)?.is_directory {
            true => of_directory(),
            false => flags & !DescriptorFlags::MUTATE_DIRECTORY,
        };
        drop(tree);
        self.push(Handle::new(&scratch, node), flags)
    }

    /// Nothing is a symbolic link, so that all that there is is not one.
    fn readlink_at(&mut self, descriptor: Resource<Descriptor>, path: String) -> FsResult<String> {
        let opened = self.get(&descriptor)?;
        opened.scratch().tree().find(opened.handle.node, &path)?;
        Err(Fault::Invalid.into())
    }

    fn remove_directory_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let opened = self.get(&descriptor)?;
        let now = opened.scratch().now();
        let mut tree = opened.scratch().tree();
        Ok(tree.remove_directory(opened.handle.node, &path, now)?)
    }

    fn rename_at(
        &mut self,
        old: Resource<Descriptor>,
        old_path: String,
        new: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (old, new) = (self.get(&old)?, self.get(&new)?);
        let now = old.scratch().now();
        let mut tree = old.scratch().tree();
        Ok(tree.rename(old.handle.node, &old_path, new.handle.node, &new_path, now)?)
    }

    fn symlink_at(
        &mut self,
        _descriptor: Resource<Descriptor>,
        _old_path: String,
        _new_path: String,
    ) -> FsResult<()> {
        Err(Fault::Unsupported.into())
    }

    fn unlink_file_at(&mut self, descriptor: Resource<Descriptor>, path: String) -> FsResult<()> {
        let opened = self.get(&descriptor)?;
        let now = opened.scratch().now();
        let mut tree = opened.scratch().tree();
        Ok(tree.remove_file(opened.handle.node, &path, now)?)
    }

    fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        let one: Resource<Opened> = Resource::new_borrow(one.rep());
        let other: Resource<Opened> = Resource::new_borrow(other.rep());
        Ok(self.table.get(&one)?.handle.node == self.table.get(&other)?.handle.node)
    }

    fn metadata_hash(&mut self, descriptor: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        Ok(hash(self.get(&descriptor)?.handle.node))
    }

    fn metadata_hash_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let opened = self.get(&descriptor)?;
        let node = opened.scratch().tree().find(opened.handle.node, &path)?;
        Ok(hash(node))
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        let ours: Resource<Opened> = Resource::new_own(descriptor.rep());
        self.table.delete(ours)?;
        Ok(())
    }
}

impl types::HostDirectoryEntryStream for View<'_> {
    fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let ours: Resource<Listing> = Resource::new_borrow(stream.rep());
        let listing = self.table.get_mut(&ours)?;
        let tree = listing.directory.scratch.tree();
        let entry = tree.entry_after(listing.directory.node, listing.last.as_deref())?;
        let Some((name, is_directory)) = entry else {
            return Ok(None);
        };
        listing.last = Some(name.into());
        Ok(Some(DirectoryEntry {
            type_: kind(is_directory),
            name: name.to_owned(),
        }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        let ours: Resource<Listing> = Resource::new_own(stream.rep());
        self.table.delete(ours)?;
        Ok(())
    }
}

impl View<'_> {
    fn writer(
        &mut self,
        descriptor: &Resource<Descriptor>,
        position: Option<u64>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let opened = self.get(descriptor)?;
        opened.writable()?;
        let stream: DynOutputStream = Box::new(Writer {
            file: opened.handle.clone(),
            position,
            is_closed: false,
        });
        Ok(self.table.push(stream)?)
    }
}

fn set_times(
    scratch: &Scratch,
    node: NodeId,
    accessed: NewTimestamp,
    modified: NewTimestamp,
) -> Result<(), Fault> {
    let now = scratch.now();
    let accessed = new_time(accessed, now)?;
    let modified = new_time(modified, now)?;
    scratch.tree().set_times(node, accessed, modified, now)
}

fn new_time(new: NewTimestamp, now: Duration) -> Result<Option<Duration>, Fault> {
    match new {
        NewTimestamp::NoChange => Ok(None),
        NewTimestamp::Now => Ok(Some(now)),
        NewTimestamp::Timestamp(at) if at.nanoseconds < 1_000_000_000 => {
            Ok(Some(Duration::new(at.seconds, at.nanoseconds)))
        }
        NewTimestamp::Timestamp(_) => Err(Fault::Invalid),
    }
}

fn kind(is_directory: bool) -> DescriptorType {
    match is_directory {
        true => DescriptorType::Directory,
        false => DescriptorType::RegularFile,
    }
}

fn known(stat: Stat) -> DescriptorStat {
    let Stat {
        is_directory,
        size,
        is_linked,
        times,
    } = stat;
    let at = |time: Duration| {
        Some(Datetime {
            seconds: time.as_secs(),
            nanoseconds: time.subsec_nanos(),
        })
    };
    DescriptorStat {
        type_: kind(is_directory),
        link_count: is_linked.into(),
        size,
        data_access_timestamp: at(times.accessed),
        data_modification_timestamp: at(times.modified),
        status_change_timestamp: at(times.changed),
    }
}

/// Tells files apart, as the number of a file on a disk does, which is what runtimes make of it.
fn hash(node: NodeId) -> MetadataHashValue {
    MetadataHashValue {
        lower: node.0,
        upper: 0,
    }
}
