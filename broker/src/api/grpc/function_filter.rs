use tonic::Status;
use tq_core::limits::NAME_BYTES_MAX;
use tq_core::task::Task;

use super::request::over;
use crate::api::status::invalid;

/// The functions that a request is about, over all versions of their modules.
#[derive(Default)]
pub(super) struct FunctionFilter {
    /// None is every module.
    module: Option<String>,
    /// None is every function.
    function: Option<String>,
}

impl FunctionFilter {
    /// Reads MODULE/FUNCTION, MODULE, or nothing for all. `what` is chosen by it, for messages.
    pub(super) fn new(what: &str, text: &str) -> Result<Self, Status> {
        over("function", text.len(), 2 * NAME_BYTES_MAX + 1)?;
        if text.contains('@') {
            return Err(invalid(format_args!(
                "function `{}` names a version; {what} are found by MODULE/FUNCTION or MODULE, over all versions",
                text.escape_debug()
            )));
        }
        let (module, function) = match text.split_once('/') {
            Some((module, function)) => (module, Some(function.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            module: (!text.is_empty()).then(|| module.to_owned()),
            function,
        })
    }

    /// Whether it names none, and takes all.
    pub(super) fn is_open(&self) -> bool {
        self.module.is_none()
    }

    pub(super) fn takes(&self, task: &Task) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        is(&self.module, &task.spec.module) && is(&self.function, &task.spec.function)
    }
}
