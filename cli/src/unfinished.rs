//! An upload that did not come to its end: the next `tq deploy` goes on with the component that it was of, since few tools build the
//! same bytes twice, and of others the broker has nothing yet.

use std::fs;
use std::path::{Path, PathBuf};

use tq_client::Component;
use tq_core::limits::CUT_UPLOAD_KEPT;

use crate::watch;

/// What the name of a mark ends with, after that of the component that it lies beside.
pub(crate) const ENDING: &str = ".upload";

/// A component that is built of a folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Built {
    folder: PathBuf,
    artifact: PathBuf,
    /// What the folder's source was before the build, so that what is changed meanwhile is not taken for what was built.
    source: u64,
}

/// A mark beside a component, for as long as it is being uploaded. It stays if nobody ends the upload.
pub(crate) struct Upload(PathBuf);

impl Built {
    /// What is about to be built of a folder, as a file.
    pub(crate) fn new(folder: &Path, artifact: PathBuf) -> Self {
        Self {
            folder: folder.to_owned(),
            source: watch::fingerprint(folder),
            artifact,
        }
    }

    /// The component's file.
    pub(crate) fn artifact(&self) -> &Path {
        &self.artifact
    }

    /// Marks the component as one that is being uploaded. Where that cannot be, or the source is another by now, an upload that is cut
    /// begins anew. `to` says where it goes, for people.
    pub(crate) fn begin_upload(&self, to: &str) -> Option<Upload> {
        let marked = self.marked(to)?;
        if watch::fingerprint(&self.folder) != self.source {
            return None;
        }
        let mark = self.mark();
        let written = fs::write(&mark, marked);
        let written = written.inspect_err(|error| {
            tracing::debug!(%error, mark = %mark.display(), "failed to mark an upload");
        });
        written.ok().map(|()| Upload(mark))
    }

    /// Whether this component's upload to the same place has not come to its end, the broker may still have what came of it, and the
    /// folder's source is as it was then.
    pub(crate) fn is_unfinished(&self, to: &str) -> bool {
        let mark = self.mark();
        let modified = fs::metadata(&mark).and_then(|found| found.modified());
        // A time in the future is none to rely on.
        let age = modified.ok().and_then(|at| at.elapsed().ok());
        let is_kept = age.is_some_and(|age| age < CUT_UPLOAD_KEPT);
        is_kept && fs::read_to_string(mark).ok() == self.marked(to)
    }

    fn mark(&self) -> PathBuf {
        let mut mark = self.artifact.clone().into_os_string();
        mark.push(ENDING);
        mark.into()
    }

    /// What a mark says: of what the upload is, and where it goes. None if there is no component.
    fn marked(&self, to: &str) -> Option<String> {
        let component = Component::read(&self.artifact).ok()?;
        let digest = hex::encode(component.digest());
        let source = self.source;
        Some(format!("{digest} of {source:016x} to {to}\n"))
    }
}

impl Upload {
    /// The broker has all of it.
    pub(crate) fn end(self) {
        let Self(mark) = self;
        if let Err(error) = fs::remove_file(&mark) {
            tracing::debug!(%error, mark = %mark.display(), "failed to remove the mark of an upload");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const TO: &str = "default at http://127.0.0.1:7171";

    #[test]
    fn component_is_taken_again_only_if_nothing_has_changed_and_its_upload_did_not_end() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("the folder can be written");
        };
        let artifact = folder.path().join("module.wasm");
        let built = || Built::new(folder.path(), artifact.clone());
        write("app.py", "1");
        write("module.wasm", "made of 1");
        assert!(!built().is_unfinished(TO), "no upload has begun");
        drop(built().begin_upload(TO).expect("it can be marked"));
        assert!(built().is_unfinished(TO));
        assert!(!built().is_unfinished("other at http://127.0.0.1:7171"));
        write("app.py", "2");
        assert!(!built().is_unfinished(TO), "the source is another");
        write("app.py", "1");
        write("module.wasm", "made otherwise");
        assert!(!built().is_unfinished(TO), "the component is another");
        write("module.wasm", "made of 1");
        assert!(built().is_unfinished(TO));
        let mark = File::options()
            .write(true)
            .open(built().mark())
            .expect("it is there");
        let modified = mark.metadata().and_then(|found| found.modified());
        let before = modified.expect("files have times") - CUT_UPLOAD_KEPT;
        mark.set_modified(before).expect("it can be set");
        assert!(
            !built().is_unfinished(TO),
            "the broker has nothing of it any more"
        );
        let upload = built().begin_upload(TO).expect("it can be marked again");
        upload.end();
        assert!(!built().is_unfinished(TO), "the upload has ended");
    }

    #[test]
    fn what_is_saved_during_the_build_is_not_what_was_built() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let source = folder.path().join("app.py");
        fs::write(&source, "1").expect("the folder can be written");
        let built = Built::new(folder.path(), folder.path().join("module.wasm"));
        fs::write(&built.artifact, "made of 1").expect("the folder can be written");
        fs::write(&source, "2").expect("the folder can be written");
        assert!(built.begin_upload(TO).is_none());
        assert!(!built.is_unfinished(TO));
    }
}
