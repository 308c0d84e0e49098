//! An upload that did not come to its end: the next `tq deploy` goes on with the component that it was of, since few tools build the
//! same bytes twice, and of others the broker has nothing yet.

use std::fs;
use std::path::PathBuf;

use tq_client::Component;

use crate::watch;

/// What the name of a mark ends with, after that of the component that it lies beside.
pub(crate) const ENDING: &str = ".upload";

/// A component that was built of a folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Built {
    /// The module's folder.
    pub(crate) folder: PathBuf,
    /// The file.
    pub(crate) artifact: PathBuf,
}

/// A mark beside a component, for as long as it is being uploaded. It stays if nobody ends the upload.
pub(crate) struct Upload(PathBuf);

impl Built {
    /// Marks the component as one that is being uploaded. Where that cannot be, an upload that is cut begins anew.
    pub(crate) fn begin_upload(&self, component: &Component) -> Option<Upload> {
        let mark = self.mark();
        let written = fs::write(&mark, self.marked(component));
        let written = written.inspect_err(|error| {
            tracing::debug!(%error, mark = %mark.display(), "failed to mark an upload");
        });
        written.ok().map(|()| Upload(mark))
    }

    /// Whether this component's upload has not come to its end, and the folder's source is as it was then.
    pub(crate) fn is_unfinished(&self) -> bool {
        let Ok(mark) = fs::read_to_string(self.mark()) else {
            return false;
        };
        let component = Component::read(&self.artifact);
        component.is_ok_and(|component| self.marked(&component) == mark)
    }

    fn mark(&self) -> PathBuf {
        let mut mark = self.artifact.clone().into_os_string();
        mark.push(ENDING);
        mark.into()
    }

    fn marked(&self, component: &Component) -> String {
        let source = watch::fingerprint(&self.folder);
        format!("{} of {source:016x}\n", hex::encode(component.digest()))
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
    use super::*;

    #[test]
    fn component_is_taken_again_only_if_nothing_has_changed_and_its_upload_did_not_end() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("the folder can be written");
        };
        let built = Built {
            folder: folder.path().to_owned(),
            artifact: folder.path().join("module.wasm"),
        };
        write("app.py", "1");
        write("module.wasm", "made of 1");
        assert!(!built.is_unfinished(), "no upload has begun");
        let component = || Component::read(&built.artifact).expect("it is there");
        drop(built.begin_upload(&component()).expect("it can be marked"));
        assert!(built.is_unfinished());
        write("app.py", "2");
        assert!(!built.is_unfinished(), "the source is another");
        write("app.py", "1");
        write("module.wasm", "made otherwise");
        assert!(!built.is_unfinished(), "the component is another");
        write("module.wasm", "made of 1");
        assert!(built.is_unfinished());
        let upload = built
            .begin_upload(&component())
            .expect("it can be marked again");
        upload.end();
        assert!(!built.is_unfinished(), "the upload has ended");
    }
}
