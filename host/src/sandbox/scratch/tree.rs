//! Files and directories by their names, and what they take.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use tq_core::limits::{
    SCRATCH_NAME_BYTES_MAX, SCRATCH_NODE_BYTES, SCRATCH_PATH_BYTES_MAX, SCRATCH_READ_BYTES_MAX,
    SCRATCH_RENAME_DEPTH_MAX,
};

use super::contents::Contents;
use super::fault::Fault;
use super::space::Space;

/// Names a file or directory. None is used twice, so that one that is gone is never mistaken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(pub(super) u64);

/// The directory that everything is in.
pub(super) const ROOT: NodeId = NodeId(0);

/// All files and directories, side by side: directories name what is in them. So nothing here goes down the tree by calling
/// itself, and a deep one is as cheap to drop as a wide one.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: u64,
    space: Space,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    times: Times,
    /// Whether a directory has it. One without a name stays as long as it is held open.
    is_linked: bool,
    handles: u32,
}

#[derive(Debug)]
enum Kind {
    File(Contents),
    Directory {
        entries: BTreeMap<Box<str>, NodeId>,
        parent: NodeId,
    },
}

/// Since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// Set with the others and by the guest. Reading does not change it, as file systems are often mounted.
    pub(super) accessed: Duration,
    pub(super) modified: Duration,
    pub(super) changed: Duration,
}

/// What is known of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) is_directory: bool,
    pub(super) size: u64,
    pub(super) is_linked: bool,
    pub(super) times: Times,
}

/// How a path is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    pub(super) is_created: bool,
    pub(super) is_new: bool,
    pub(super) is_truncated: bool,
    pub(super) is_directory: bool,
    pub(super) is_written: bool,
}

/// Where a path leads.
enum Place<'a> {
    /// To a directory that was come through, by `.` or `..`.
    Directory(NodeId),
    /// To a name in a directory, whether or not there is something of this name.
    Entry(Entry<'a>),
}

#[derive(Clone, Copy)]
struct Entry<'a> {
    parent: NodeId,
    name: &'a str,
    /// The path ends as only those of directories may.
    is_directory: bool,
}

impl Tree {
    /// An empty directory, which itself takes nothing.
    pub(super) fn new(limit: u64, now: Duration) -> Self {
        let root = Node {
            kind: Kind::directory(ROOT),
            times: Times::all(now),
            is_linked: true,
            handles: 0,
        };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT.0 + 1,
            space: Space::new(limit),
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.space.limit()
    }

    /// The sum that was asked for when it first was over the limit.
    pub(super) fn denied(&self) -> Option<u64> {
        self.space.denied()
    }

    /// Keeps a node, also when it loses its name, until it is let go as often.
    pub(super) fn hold(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.handles += 1;
        }
    }

    pub(super) fn let_go(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.handles = node.handles.saturating_sub(1);
            self.remove_if_unused(id);
        }
    }

    pub(super) fn stat(&self, node: NodeId) -> Result<Stat, Fault> {
        let node = self.node(node)?;
        let (is_directory, size) = match &node.kind {
            Kind::File(contents) => (false, contents.size()),
            Kind::Directory { .. } => (true, 0),
        };
        Ok(Stat {
            is_directory,
            size,
            is_linked: node.is_linked,
            times: node.times,
        })
    }

    /// What the path leads to.
    pub(super) fn find(&self, base: NodeId, path: &str) -> Result<NodeId, Fault> {
        match self.walk(base, path)? {
            Place::Directory(node) => Ok(node),
            Place::Entry(entry) => self.existing(entry),
        }
    }

    /// What the path leads to, made or emptied as asked for.
    pub(super) fn open(
        &mut self,
        base: NodeId,
        path: &str,
        open: Open,
        now: Duration,
    ) -> Result<NodeId, Fault> {
        let Open {
            is_created,
            is_new,
            is_truncated,
            is_directory,
            is_written,
        } = open;
        if is_directory && (is_created || is_new || is_truncated) {
            return Err(Fault::Invalid);
        }
        let (found, missing) = match self.walk(base, path)? {
            Place::Directory(node) => (Ok(node), None),
            Place::Entry(entry) => (self.existing(entry), Some(entry)),
        };
        match (found, missing) {
            (Ok(_), _) if is_created && is_new => Err(Fault::Exists),
            (Ok(node), _) if self.stat(node)?.is_directory => {
                if is_created || is_truncated || is_written {
                    return Err(Fault::IsDirectory);
                }
                Ok(node)
            }
            (Ok(_), _) if is_directory => Err(Fault::NotDirectory),
            (Ok(node), _) => {
                if is_truncated {
                    self.resize(node, 0, now)?;
                }
                Ok(node)
            }
            (Err(Fault::Missing), Some(entry)) if is_created => {
                if entry.is_directory {
                    return Err(Fault::IsDirectory);
                }
                self.add(entry, Kind::File(Contents::default()), now)
            }
            (Err(fault), _) => Err(fault),
        }
    }

    pub(super) fn make_directory(
        &mut self,
        base: NodeId,
        path: &str,
        now: Duration,
    ) -> Result<(), Fault> {
        let Place::Entry(entry) = self.walk(base, path)? else {
            return Err(Fault::Exists);
        };
        if self.child(entry)?.is_some() {
            return Err(Fault::Exists);
        }
        self.add(entry, Kind::directory(entry.parent), now)?;
        Ok(())
    }

    pub(super) fn remove_directory(
        &mut self,
        base: NodeId,
        path: &str,
        now: Duration,
    ) -> Result<(), Fault> {
        let Place::Entry(entry) = self.walk(base, path)? else {
            return Err(Fault::Invalid);
        };
        let node = self.existing(entry)?;
        if !self.entries(node)?.is_empty() {
            return Err(Fault::NotEmpty);
        }
        self.unlink(entry, node, now)
    }

    pub(super) fn remove_file(
        &mut self,
        base: NodeId,
        path: &str,
        now: Duration,
    ) -> Result<(), Fault> {
        let Place::Entry(entry) = self.walk(base, path)? else {
            return Err(Fault::IsDirectory);
        };
        let node = self.existing(entry)?;
        if self.stat(node)?.is_directory {
            return Err(Fault::IsDirectory);
        }
        self.unlink(entry, node, now)
    }

    /// Gives something another name, in place of what had that.
    pub(super) fn rename(
        &mut self,
        old_base: NodeId,
        old_path: &str,
        new_base: NodeId,
        new_path: &str,
        now: Duration,
    ) -> Result<(), Fault> {
        let Place::Entry(old) = self.walk(old_base, old_path)? else {
            return Err(Fault::Invalid);
        };
        let node = self.existing(old)?;
        let Place::Entry(new) = self.walk(new_base, new_path)? else {
            return Err(Fault::Invalid);
        };
        let is_directory = self.stat(node)?.is_directory;
        if new.is_directory && !is_directory {
            return Err(Fault::NotDirectory);
        }
        if is_directory {
            self.check_is_not_within(new.parent, node)?;
        }
        let replaced = self.child(new)?;
        match replaced {
            Some(replaced) if replaced == node => return Ok(()),
            Some(replaced) => match (is_directory, self.stat(replaced)?.is_directory) {
                (true, true) if !self.entries(replaced)?.is_empty() => {
                    return Err(Fault::NotEmpty);
                }
                (true, true) | (false, false) => {}
                (true, false) => return Err(Fault::NotDirectory),
                (false, true) => return Err(Fault::IsDirectory),
            },
            None => self.check_is_linked(new.parent)?,
        }
        // Nothing fails after what is replaced is gone: its name made room for the new one.
        if let Some(replaced) = replaced {
            self.unlink(new, replaced, now)?;
        }
        let (old_len, new_len) = (old.name.len() as u64, new.name.len() as u64);
        self.space.exchange(old_len, new_len)?;
        self.entries_mut(old.parent, now)?.remove(old.name);
        self.entries_mut(new.parent, now)?
            .insert(new.name.into(), node);
        let node = self.node_mut(node)?;
        node.times.changed = now;
        if let Kind::Directory { parent, .. } = &mut node.kind {
            *parent = new.parent;
        }
        Ok(())
    }

    /// The first entry of a directory after this name, in their order: its name, and whether it is a directory. So a guest that
    /// lists a directory makes the host hold one name, whatever changes meanwhile.
    pub(super) fn entry_after(
        &self,
        directory: NodeId,
        name: Option<&str>,
    ) -> Result<Option<(&str, bool)>, Fault> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let mut entries = self
            .entries(directory)?
            .range::<str, _>((from, Bound::Unbounded));
        let Some((name, node)) = entries.next() else {
            return Ok(None);
        };
        Ok(Some((name, self.stat(*node)?.is_directory)))
    }

    /// At most `len` bytes from there, and at most [`SCRATCH_READ_BYTES_MAX`]; none at the end.
    pub(super) fn read(&self, file: NodeId, offset: u64, len: u64) -> Result<Vec<u8>, Fault> {
        let len = usize::try_from(len).map_or(SCRATCH_READ_BYTES_MAX, |len| {
            len.min(SCRATCH_READ_BYTES_MAX)
        });
        match &self.node(file)?.kind {
            Kind::File(contents) => Ok(contents.read(offset, len)),
            Kind::Directory { .. } => Err(Fault::IsDirectory),
        }
    }

    /// Writes what fits, and returns how much that is; without an offset, at the end.
    pub(super) fn write(
        &mut self,
        file: NodeId,
        offset: Option<u64>,
        bytes: &[u8],
        now: Duration,
    ) -> Result<usize, Fault> {
        self.change(file, now, |contents, space| {
            let offset = offset.unwrap_or(contents.size());
            contents.write(space, offset, bytes)
        })
    }

    pub(super) fn resize(&mut self, file: NodeId, size: u64, now: Duration) -> Result<(), Fault> {
        self.change(file, now, |contents, space| contents.resize(space, size))
    }

    pub(super) fn set_times(
        &mut self,
        node: NodeId,
        accessed: Option<Duration>,
        modified: Option<Duration>,
        now: Duration,
    ) -> Result<(), Fault> {
        let times = &mut self.node_mut(node)?.times;
        times.accessed = accessed.unwrap_or(times.accessed);
        times.modified = modified.unwrap_or(times.modified);
        times.changed = now;
        Ok(())
    }

    /// Goes along a path from a directory, up to its last name. It never leaves that directory: a path that begins with `/` or
    /// goes back further than it came is refused, as of every directory that a guest holds.
    fn walk<'a>(&self, base: NodeId, path: &'a str) -> Result<Place<'a>, Fault> {
        self.entries(base)?;
        if path.is_empty() {
            return Err(Fault::Missing);
        }
        if path.len() > SCRATCH_PATH_BYTES_MAX {
            return Err(Fault::NameTooLong);
        }
        if path.contains('\0') {
            return Err(Fault::Invalid);
        }
        if path.starts_with('/') {
            return Err(Fault::Outside);
        }
        let mut at = base;
        let mut above = Vec::new();
        let mut names = path
            .split('/')
            .filter(|name| !name.is_empty() && *name != ".")
            .peekable();
        while let Some(name) = names.next() {
            if name == ".." {
                at = above.pop().ok_or(Fault::Outside)?;
                continue;
            }
            if name.len() > SCRATCH_NAME_BYTES_MAX {
                return Err(Fault::NameTooLong);
            }
            let entry = Entry {
                parent: at,
                name,
                is_directory: path.ends_with('/') || path.ends_with("/."),
            };
            if names.peek().is_none() {
                return Ok(Place::Entry(entry));
            }
            let next = self.child(entry)?.ok_or(Fault::Missing)?;
            self.entries(next)?;
            above.push(at);
            at = next;
        }
        Ok(Place::Directory(at))
    }

    /// Whatever has this name.
    fn child(&self, entry: Entry<'_>) -> Result<Option<NodeId>, Fault> {
        Ok(self.entries(entry.parent)?.get(entry.name).copied())
    }

    /// What has this name, and is what the path says that it is.
    fn existing(&self, entry: Entry<'_>) -> Result<NodeId, Fault> {
        let node = self.child(entry)?.ok_or(Fault::Missing)?;
        if entry.is_directory {
            self.entries(node)?;
        }
        Ok(node)
    }

    fn add(&mut self, entry: Entry<'_>, kind: Kind, now: Duration) -> Result<NodeId, Fault> {
        self.check_is_linked(entry.parent)?;
        self.space
            .take(SCRATCH_NODE_BYTES + entry.name.len() as u64)?;
        let id = NodeId(self.next);
        self.next += 1;
        let node = Node {
            kind,
            times: Times::all(now),
            is_linked: true,
            handles: 0,
        };
        self.nodes.insert(id, node);
        self.entries_mut(entry.parent, now)?
            .insert(entry.name.into(), id);
        Ok(id)
    }

    /// Takes its name from a node, and removes it if nobody holds it.
    fn unlink(&mut self, entry: Entry<'_>, id: NodeId, now: Duration) -> Result<(), Fault> {
        self.entries_mut(entry.parent, now)?.remove(entry.name);
        self.space.give(entry.name.len() as u64);
        let node = self.node_mut(id)?;
        node.is_linked = false;
        node.times.changed = now;
        self.remove_if_unused(id);
        Ok(())
    }

    fn remove_if_unused(&mut self, id: NodeId) {
        let is_used = |node: &Node| node.is_linked || node.handles > 0;
        if self.nodes.get(&id).is_none_or(is_used) {
            return;
        }
        if let Some(node) = self.nodes.remove(&id) {
            let contents = match &node.kind {
                Kind::File(contents) => contents.cost(),
                // It was empty when it lost its name, and nothing is added to it since.
                Kind::Directory { .. } => 0,
            };
            self.space.give(SCRATCH_NODE_BYTES + contents);
        }
    }

    /// A directory that was removed while somebody holds it takes nothing new.
    fn check_is_linked(&self, directory: NodeId) -> Result<(), Fault> {
        match self.node(directory)?.is_linked {
            true => Ok(()),
            false => Err(Fault::Missing),
        }
    }

    /// A directory cannot be moved below itself.
    fn check_is_not_within(&self, directory: NodeId, moved: NodeId) -> Result<(), Fault> {
        let mut at = directory;
        for _ in 0..SCRATCH_RENAME_DEPTH_MAX {
            if at == moved {
                return Err(Fault::Invalid);
            }
            if at == ROOT {
                return Ok(());
            }
            match &self.node(at)?.kind {
                Kind::Directory { parent, .. } => at = *parent,
                Kind::File(_) => return Err(Fault::NotDirectory),
            }
        }
        Err(Fault::TooDeep)
    }

    fn change<T>(
        &mut self,
        file: NodeId,
        now: Duration,
        change: impl FnOnce(&mut Contents, &mut Space) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let node = self.nodes.get_mut(&file).ok_or(Fault::Missing)?;
        let Kind::File(contents) = &mut node.kind else {
            return Err(Fault::IsDirectory);
        };
        let changed = change(contents, &mut self.space)?;
        node.times.modified = now;
        node.times.changed = now;
        Ok(changed)
    }

    fn node(&self, node: NodeId) -> Result<&Node, Fault> {
        self.nodes.get(&node).ok_or(Fault::Missing)
    }

    fn node_mut(&mut self, node: NodeId) -> Result<&mut Node, Fault> {
        self.nodes.get_mut(&node).ok_or(Fault::Missing)
    }

    fn entries(&self, directory: NodeId) -> Result<&BTreeMap<Box<str>, NodeId>, Fault> {
        match &self.node(directory)?.kind {
            Kind::Directory { entries, .. } => Ok(entries),
            Kind::File(_) => Err(Fault::NotDirectory),
        }
    }

    /// The entries of a directory, to be changed.
    fn entries_mut(
        &mut self,
        directory: NodeId,
        now: Duration,
    ) -> Result<&mut BTreeMap<Box<str>, NodeId>, Fault> {
        let node = self.node_mut(directory)?;
        node.times.modified = now;
        node.times.changed = now;
        match &mut node.kind {
            Kind::Directory { entries, .. } => Ok(entries),
            Kind::File(_) => Err(Fault::NotDirectory),
        }
    }
}

impl Kind {
    fn directory(parent: NodeId) -> Self {
        Self::Directory {
            entries: BTreeMap::new(),
            parent,
        }
    }
}

impl Times {
    fn all(now: Duration) -> Self {
        Self {
            accessed: now,
            modified: now,
            changed: now,
        }
    }
}

#[cfg(test)]
mod tests;
