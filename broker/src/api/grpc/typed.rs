//! Typed functions: how they are shown, and what is refused of payloads for them.

use std::sync::Arc;

use bytes::Bytes;
use tonic::Status;
use tq_core::limits::INLINE_BYTES_MAX;
use tq_proto::v1;

use super::blocking::blocking;
use crate::api::status::invalid;
use crate::modules::registry::{Function, Module};
use crate::modules::{Typed, Uncallable};

/// A function as it is shown in a list.
pub(super) fn listed(typed: &Typed) -> v1::TypedFunction {
    v1::TypedFunction {
        signature: typed.signature(),
        full_name: typed.full_name(),
        definitions: Vec::new(),
    }
}

/// A module with what its functions take and give, which is too much for a list of modules.
pub(super) fn described(mut shown: v1::Module, module: &Module) -> v1::Module {
    for (shown, function) in shown.functions.iter_mut().zip(&module.functions) {
        let Some(typed) = &function.typed else {
            let schemas = &function.schemas;
            shown.example = schemas.example().unwrap_or_default();
            [shown.input_schema, shown.output_schema] = schemas.documents();
            continue;
        };
        let function = &typed.function;
        shown.typed = Some(v1::TypedFunction {
            definitions: function.definitions(),
            ..listed(typed)
        });
        shown.example = function.example();
        shown.input_schema = function.input_schema().to_string();
        shown.output_schema = function.output_schema().to_string();
        let error = function.error_schema();
        shown.error_schema = error.map_or_else(String::new, |schema| schema.to_string());
    }
    shown
}

pub(super) fn uncallable(Uncallable { name, why }: &Uncallable) -> v1::UncallableFunction {
    v1::UncallableFunction {
        name: name.clone(),
        why: why.clone(),
    }
}

/// The calls of typed functions in a request, whose payloads have to fit.
#[derive(Default)]
pub(super) struct Calls {
    /// Calls that were seen, of other functions too.
    seen: usize,
    typed: Vec<Call>,
}

struct Call {
    /// Its place in the request, from 0.
    index: usize,
    /// MODULE/FUNCTION.
    name: String,
    module: String,
    typed: Arc<Typed>,
    payload: Bytes,
}

impl Calls {
    /// The next call of the request.
    pub(super) fn add(&mut self, module: &Module, function: &Function, payload: &Bytes) {
        if let Some(typed) = &function.typed {
            self.typed.push(Call {
                index: self.seen,
                name: format!("{}/{}", module.name, function.name),
                module: format!("{}@{}", module.name, module.version),
                typed: Arc::clone(typed),
                payload: payload.clone(),
            });
        }
        self.seen += 1;
    }

    /// Reads the payloads. Large ones take milliseconds, and are read on a thread for that.
    ///
    /// # Errors
    /// The first that does not fit, with its place in the request.
    pub(super) async fn check(self) -> Result<(), (usize, Status)> {
        let Self { seen: _, typed } = self;
        let first_refused = |typed: Vec<Call>| {
            let mut refused = typed.iter().filter_map(|call| {
                let status = call.check().err()?;
                Some((call.index, status))
            });
            refused.next()
        };
        let bytes: usize = typed.iter().map(|call| call.payload.len()).sum();
        let refused = if bytes <= INLINE_BYTES_MAX {
            first_refused(typed)
        } else {
            let read = blocking(move || Ok(first_refused(typed))).await;
            read.map_err(|status| (0, status))?
        };
        refused.map_or(Ok(()), Err)
    }
}

impl Call {
    fn check(&self) -> Result<(), Status> {
        let read = tq_typed::arguments(&self.typed.function, &self.payload);
        read.map(drop).map_err(|error| {
            invalid(format_args!(
                "payload does not fit `{}`: {error}\nhint: `tq describe {}` shows what it takes",
                self.name, self.module
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use tq_core::{Digest, Timestamp};
    use tq_typed::{Field, Type};

    use super::*;
    use crate::modules::Entry;

    fn module() -> Module {
        let param = |ty| Field {
            name: "n".to_owned(),
            ty,
        };
        let typed = |ty| {
            Some(Arc::new(Typed {
                interface: String::new(),
                export: "f".to_owned(),
                function: tq_typed::Function {
                    params: vec![param(ty)],
                    result: None,
                },
            }))
        };
        let function = |name: &str, typed| Function {
            name: name.to_owned(),
            typed,
            ..Function::default()
        };
        Module {
            name: "m".to_owned(),
            version: 3,
            digest: Digest([1; 32]),
            size_bytes: 1,
            entry: Entry::Typed,
            functions: vec![
                function("f", typed(Type::U8)),
                function("text", typed(Type::String)),
                function("any", None),
            ],
            uploaded_at: Timestamp::EPOCH,
            retired_at: Timestamp::EPOCH,
            not_granted: Vec::new(),
            uncallable: Vec::new(),
        }
    }

    #[tokio::test]
    async fn first_payload_that_does_not_fit_is_refused_with_its_place() {
        let module = module();
        let check = async |calls: &[(usize, &str)]| {
            let mut all = Calls::default();
            for (function, payload) in calls {
                let payload = Bytes::copy_from_slice(payload.as_bytes());
                all.add(&module, &module.functions[*function], &payload);
            }
            all.check().await.map_err(|(index, status)| {
                let text = status.message();
                (index, text.lines().next().map(str::to_owned))
            })
        };
        let large = format!("{{\"n\":\"{}\"}}", "x".repeat(INLINE_BYTES_MAX));
        assert_eq!(
            check(&[(0, "{\"n\":1}"), (2, "anything"), (1, &large)]).await,
            Ok(())
        );
        let refused = |index, what: &str| {
            let text = format!(
                "payload does not fit `m/f`: at `$.n`: expected u8 (a whole number from 0 to 255), got {what}"
            );
            Err((index, Some(text)))
        };
        assert_eq!(
            check(&[(2, ""), (0, "{\"n\":256}"), (0, "{}")]).await,
            refused(1, "256")
        );
        // On another thread it is the same.
        assert_eq!(
            check(&[(1, &large), (0, "{}")]).await,
            refused(1, "nothing")
        );
    }
}
