//! Payloads of typed functions, against types of every kind; and these types on their way through rows.

use arbitrary::{Result, Unstructured};
use tq_broker::modules::registry::{Function, Module};
use tq_broker::modules::{Entry, Typed};
use tq_broker::tables::{Namespace, row};
use tq_core::limits::TYPED_VALUES_MAX;
use tq_core::{Digest, Timestamp};
use tq_typed::{Type, Value};

pub(crate) fn read(bytes: &[u8]) {
    let mut choices = Unstructured::new(bytes);
    // What the bytes end before means the first of all choices.
    let read = match choices.int_in_range(0..=15) {
        Ok(0) => rows(&mut choices),
        _ => payload(&mut choices),
    };
    read.expect("every bytes are a choice");
}

/// A payload that fits, and what becomes of it when some of it is changed; or what the rest of the bytes say.
fn payload(choices: &mut Unstructured<'_>) -> Result<()> {
    let function = tq_worlds::function(choices)?;
    let all = Type::Record {
        name: String::new(),
        fields: function.params.clone(),
    };
    let payload = if choices.ratio(1, 3)? {
        choices.bytes(choices.len())?.to_vec()
    } else {
        let value = tq_worlds::value(choices, &all)?;
        let mut payload = tq_typed::json(&all, &value, usize::MAX).expect("it has no end");
        let read = tq_typed::value(&all, &payload);
        assert_eq!(shown(&read), shown(&Ok::<_, ()>(value)));
        for _ in 0..choices.int_in_range(0..=3)? {
            let at = choices.int_in_range(0..=payload.len())?;
            let to = choices.int_in_range(at..=payload.len().min(at + 8))?;
            let len = choices.int_in_range(0..=8)?.min(choices.len());
            let with = choices.bytes(len)?.to_vec();
            payload.splice(at..to, with);
        }
        payload
    };
    let values = match tq_typed::arguments(&function, &payload) {
        Ok(values) => values,
        Err(error) => {
            let said = error.to_string();
            // The longest is one of all names that there could be.
            assert!(said.len() <= 32 * 1024 && !said.is_empty(), "{said}");
            return Ok(());
        }
    };
    let values = Value::Record(values);
    assert!(count(&values) <= TYPED_VALUES_MAX + 1);
    // What was taken means the same once it is written anew, and is written the same then.
    let written = tq_typed::json(&all, &values, usize::MAX).expect("it has no end");
    let again = tq_typed::value(&all, &written);
    assert_eq!(shown(&again), shown(&Ok::<_, ()>(values)));
    let again = again.expect("it is the same");
    let last = written.len();
    assert_eq!(tq_typed::json(&all, &again, last).as_ref(), Ok(&written));
    assert!(tq_typed::json(&all, &again, last - 1).is_err());
    Ok(())
}

/// By its text: what is not a number is not equal to itself.
fn shown<E: std::fmt::Debug>(value: &std::result::Result<Value, E>) -> String {
    format!("{value:?}")
}

fn count(value: &Value) -> usize {
    let side = |value: &Option<Box<Value>>| value.as_deref().map_or(0, count);
    1 + match value {
        Value::Bytes(bytes) => bytes.len(),
        Value::List(values) | Value::Tuple(values) | Value::Record(values) => {
            values.iter().map(count).sum()
        }
        Value::Option(value) | Value::Variant(_, value) => side(value),
        Value::Result(Ok(value) | Err(value)) => side(value),
        _ => 0,
    }
}

/// A row of typed functions is read as it was written; and all that is shown of them is made of them.
fn rows(choices: &mut Unstructured<'_>) -> Result<()> {
    let function = tq_worlds::function(choices)?;
    let example = show(&function);
    let read = tq_typed::arguments(&function, example.as_bytes());
    read.unwrap_or_else(|error| panic!("{error}: {example}"));
    let module = Module {
        name: "fuzzed".to_owned(),
        version: 1,
        digest: Digest([7; 32]),
        size_bytes: 7,
        entry: Entry::Typed,
        functions: vec![Function {
            name: "f".to_owned(),
            typed: Some(
                Typed {
                    interface: String::new(),
                    export: "f".to_owned(),
                    function,
                }
                .into(),
            ),
            ..Function::default()
        }],
        uploaded_at: Timestamp::EPOCH,
        retired_at: Timestamp::EPOCH,
        not_granted: Vec::new(),
        uncallable: Vec::new(),
    };
    let mut row = row::encode_module(NAMESPACE, &module);
    let read = row::decode_module(&row);
    assert_eq!(read.ok(), Some((NAMESPACE, module)));
    // A damaged one is refused, or read as another.
    for _ in 0..choices.int_in_range(0..=2)? {
        let at = choices.choose_index(row.len())?;
        row[at] = choices.arbitrary()?;
    }
    if let Ok((_, module)) = row::decode_module(&row) {
        let typed = module.functions.iter().filter_map(|of| of.typed.as_ref());
        typed.for_each(|typed| drop(show(&typed.function)));
    }
    Ok(())
}

/// Makes all that people see of a function. Returns its example.
fn show(function: &tq_typed::Function) -> String {
    drop((
        function.signature("f"),
        function.definitions(),
        function.input_schema(),
        function.output_schema(),
        function.error_schema(),
    ));
    function.example()
}

const NAMESPACE: Namespace = Namespace(7);
