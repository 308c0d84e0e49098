//! Cases that a module's functions are tried with: what a function is given, what is around it, and what has to come of it.

mod baseline;
mod content;
mod differences;
mod object;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;
use tq_core::Outcome;
use tq_host::egress::Answer;

use crate::document;
use crate::exit::Failure;
use crate::payload::Payload;

pub(crate) use baseline::{Baseline, Change, FILE as BASELINE_FILE};
pub(crate) use content::{Content, shown};
use object::Object;

/// Where cases are, below a module's folder.
pub(crate) const FOLDER: &str = "cases";
/// Bytes of one file of cases, and of one that a case names.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The end of a call that the broker does not take at all, so that nothing runs.
pub(crate) const REFUSED: &str = "refused";

/// The keys of a case.
const KEYS: &[&str] = &[
    "name",
    "function",
    "input",
    "input_text",
    "input_base64",
    "input_file",
    "content_type",
    "args",
    "env",
    "secrets",
    "keyvalue",
    "http",
    "output",
    "output_text",
    "output_base64",
    "output_file",
    "outcome",
    "message",
    "keyvalue_after",
];

/// Keys and values of buckets, by bucket.
pub(crate) type Buckets = BTreeMap<String, BTreeMap<String, Content>>;

/// One call, what is around it, and what is expected of it.
#[derive(Debug)]
pub(crate) struct Case {
    /// The file's name without its end; where the file has several, with the case's own behind it.
    pub(crate) name: String,
    /// Where it is written.
    pub(crate) file: PathBuf,
    /// The function; none where there is only one.
    pub(crate) function: Option<String>,
    /// What the function is given.
    pub(crate) input: Payload,
    /// A program's arguments.
    pub(crate) arguments: Vec<String>,
    /// Variables, over those that are granted.
    pub(crate) env: BTreeMap<String, String>,
    /// Secrets that are there.
    pub(crate) secrets: BTreeMap<String, Bytes>,
    /// Buckets that are there.
    pub(crate) keyvalue: Buckets,
    /// What requests are answered.
    pub(crate) http: Vec<Answer>,
    /// How it ends.
    pub(crate) expected: Expected,
    /// All that is in these buckets then.
    pub(crate) keyvalue_after: Buckets,
}

/// How a case ends.
#[derive(Debug, PartialEq)]
pub(crate) enum Expected {
    /// With a result, with this one if it is said.
    Result(Option<Content>),
    /// Otherwise.
    Failure {
        /// The outcome's name.
        outcome: String,
        /// A part of the message.
        message: Option<String>,
    },
}

/// All cases of the module in `folder`, in the order of their files' names.
///
/// # Errors
/// A file that cannot be read, or that is no case; no case at all.
pub(crate) fn read(folder: &Path) -> Result<Vec<Case>, Failure> {
    let place = folder.join(FOLDER);
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| Failure::usage(format!("failed to read `{path}`: {error}"))
    };
    let none = || {
        Failure::not_found(format!("there is no case in `{}`", place.display())).hint(format!(
            "write one, such as `{FOLDER}/first.json`: {{\"function\": \"greet\", \"input\": {{\"name\": \"Ada\"}}, \"output\": {{\"greeting\": \"Hello, Ada!\"}}}}"
        ))
    };
    let mut files = Vec::new();
    let entries = match fs::read_dir(&place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
        Err(error) => return Err(unreadable(&place)(error)),
    };
    for entry in entries {
        let path = entry.map_err(unreadable(&place))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let len = fs::metadata(&file).map_err(unreadable(&file))?.len();
        if len > FILE_BYTES_MAX {
            let message = format!(
                "`{}` has {len} bytes, over the limit of {FILE_BYTES_MAX} bytes for cases",
                file.display()
            );
            return Err(Failure::usage(message)
                .hint("put what is large into a file of its own, and name that with `input_file` or `output_file`"));
        }
        let text = fs::read_to_string(&file).map_err(unreadable(&file))?;
        cases.extend(parse(&file, &text)?);
    }
    if cases.is_empty() {
        return Err(none());
    }
    Ok(cases)
}

/// The cases of one file: an object, or a list of objects that have names.
fn parse(file: &Path, text: &str) -> Result<Vec<Case>, Failure> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let Value::Array(values) = &value else {
        let case = Object::of(file, "", &value)?;
        if let Some(refused) = case.refuse_if_there(
            "name",
            "a case that has its file to itself has the file's name",
        ) {
            return Err(refused);
        }
        return Ok(vec![self::case(&case, stem.into_owned())?]);
    };
    let mut names = BTreeSet::new();
    let cases = values.iter().enumerate().map(|(index, value)| {
        let case = Object::of(file, &format!("[{index}]"), value)?;
        let name = case.text("name")?;
        let name = name.ok_or_else(|| {
            case.refuse("has no `name`, which it needs beside others in one file")
        })?;
        if !names.insert(name) {
            return Err(case.invalid("name", &format!("another case of the file is `{name}`")));
        }
        self::case(&case, format!("{stem}/{name}"))
    });
    cases.collect()
}

fn case(case: &Object<'_>, name: String) -> Result<Case, Failure> {
    case.only(KEYS)?;
    let content_type = case.text("content_type")?.map(str::to_owned);
    let input = match case.content("input")? {
        Some(content) => Payload::given(content.bytes(), content_type),
        None => match case.refuse_if_there("content_type", "there is no input that it could be of")
        {
            Some(refused) => return Err(refused),
            None => Payload::given(Bytes::new(), None),
        },
    };
    let secrets = case.texts("secrets")?.unwrap_or_default();
    Ok(Case {
        name,
        file: case.file().to_owned(),
        function: case.text("function")?.map(str::to_owned),
        input,
        arguments: case.list("args")?.unwrap_or_default(),
        env: case.texts("env")?.unwrap_or_default(),
        secrets: secrets
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect(),
        keyvalue: buckets(case, "keyvalue")?,
        http: case.each("http", |answer| answer_of(&answer))?,
        expected: expected(case)?,
        keyvalue_after: buckets(case, "keyvalue_after")?,
    })
}

fn expected(case: &Object<'_>) -> Result<Expected, Failure> {
    let output = case.content("output")?;
    let message = case.text("message")?;
    let Some(outcome) = case.text("outcome")? else {
        return match message {
            Some(_) => Err(case.invalid(
                "message",
                "it needs `outcome`: what succeeds has no message",
            )),
            None => Ok(Expected::Result(output)),
        };
    };
    let succeeded = Outcome::Succeeded.name();
    let mut known: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
    known.push(REFUSED);
    if !known.contains(&outcome) {
        let refused = case.invalid("outcome", &format!("`{outcome}` is no outcome"));
        return Err(match document::nearest(outcome, &known) {
            Some(near) => refused.hint(format!("did you mean `{near}`?")),
            None => refused.hint(format!("known are {}", known.join(", "))),
        });
    }
    match (outcome == succeeded, message, output) {
        (true, None, output) => Ok(Expected::Result(output)),
        (true, Some(_), _) => Err(case.invalid("message", "what succeeds has no message")),
        (false, _, Some(_)) => Err(case.invalid("outcome", "only what succeeds has an output")),
        (false, message, None) => Ok(Expected::Failure {
            outcome: outcome.to_owned(),
            message: message.map(str::to_owned),
        }),
    }
}

fn buckets(case: &Object<'_>, key: &str) -> Result<Buckets, Failure> {
    let Some(buckets) = case.object(key)? else {
        return Ok(Buckets::new());
    };
    let names = buckets.names();
    let read = names.map(|bucket| {
        let Some(keys) = buckets.object(bucket)? else {
            return Ok((bucket.to_owned(), BTreeMap::new()));
        };
        let names = keys.names();
        let values = names.map(|name| Ok((name.to_owned(), keys.value(name)?)));
        Ok((bucket.to_owned(), values.collect::<Result<_, Failure>>()?))
    });
    read.collect()
}

fn answer_of(answer: &Object<'_>) -> Result<Answer, Failure> {
    answer.only(&[
        "method",
        "url",
        "status",
        "headers",
        "body",
        "body_text",
        "body_base64",
        "body_file",
    ])?;
    let url = answer.text("url")?;
    let url = url.ok_or_else(|| answer.refuse("has no `url`"))?;
    let mut headers: Vec<(String, Bytes)> = Vec::new();
    for (name, value) in answer.texts("headers")?.unwrap_or_default() {
        headers.push((name, value.into()));
    }
    let body = answer.content("body")?;
    let names_a_type = |headers: &[(String, Bytes)]| {
        let mut names = headers.iter();
        names.any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    };
    if matches!(body, Some(Content::Json(_))) && !names_a_type(&headers) {
        headers.push(("content-type".to_owned(), "application/json".into()));
    }
    let built = Answer::new(
        answer.text("method")?.unwrap_or("GET"),
        url,
        answer.status("status")?.unwrap_or(200),
        headers,
        body.map(|body| body.bytes()).unwrap_or_default(),
    );
    built.map_err(|error| answer.refuse(&format!("is no answer: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn one(text: &str) -> Case {
        let mut cases = parse(Path::new("cases/f.json"), text).expect("it is a case");
        assert_eq!(cases.len(), 1);
        cases.remove(0)
    }

    #[test]
    fn every_key_has_its_place() {
        let case = one(r#"{
            "function": "f",
            "input": {"a": [1]},
            "args": ["-v"],
            "env": {"LANG": "C"},
            "secrets": {"key": "s3cret-1"},
            "keyvalue": {"cache": {"text": "a", "json": {"json": {"n": 1}}, "bytes": {"base64": "AP8="}}, "empty": {}},
            "http": [{"url": "https://a.example/x", "body": {"ok": true}}, {"method": "POST", "url": "https://a.example/y", "status": 503, "headers": {"retry-after": "1"}}],
            "output_text": "done",
            "keyvalue_after": {"cache": {}}
        }"#);
        assert_eq!(
            (case.name.as_str(), case.function.as_deref()),
            ("f", Some("f"))
        );
        assert_eq!(&case.input.bytes[..], br#"{"a":[1]}"#);
        assert_eq!(case.input.content_type, "application/json");
        assert_eq!(case.arguments, ["-v"]);
        assert_eq!(case.env["LANG"], "C");
        assert_eq!(case.secrets["key"], "s3cret-1");
        let cache = &case.keyvalue["cache"];
        assert_eq!(cache["text"], Content::Bytes("a".into()));
        assert_eq!(cache["json"], Content::Json(json!({"n": 1})));
        assert_eq!(cache["bytes"], Content::Bytes(vec![0, 255].into()));
        assert!(case.keyvalue["empty"].is_empty());
        assert_eq!(case.http.len(), 2);
        assert_eq!(
            case.expected,
            Expected::Result(Some(Content::Bytes("done".into())))
        );
        assert!(case.keyvalue_after["cache"].is_empty());
    }

    #[test]
    fn what_is_left_out_is_nothing() {
        let case = one("{}");
        assert_eq!(case.function, None);
        assert!(case.input.bytes.is_empty() && case.input.content_type.is_empty());
        assert_eq!(case.expected, Expected::Result(None));
    }

    #[test]
    fn cases_of_one_file_have_names() {
        let text = r#"[{"name": "a"}, {"name": "b", "outcome": "trap", "message": "at"}]"#;
        let cases = parse(Path::new("cases/f.json"), text).expect("they are cases");
        let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["f/a", "f/b"]);
        let trap = Expected::Failure {
            outcome: "trap".into(),
            message: Some("at".into()),
        };
        assert_eq!(cases[1].expected, trap);
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let refused = parse(Path::new("cases/f.json"), text).expect_err("it is no case");
        assert_eq!(crate::exit::text(&refused.into()), expected);
    }

    #[test]
    fn errors_name_the_file_the_key_and_the_nearest_key() {
        check(
            "{",
            "error: cases/f.json: EOF while parsing an object at line 1 column 1",
        );
        check(
            "3",
            "error: cases/f.json: it is a number, and has to be an object",
        );
        check(
            r#"{"ouput": 1}"#,
            "error: cases/f.json: `ouput` is not a key\nhint: did you mean `output`?",
        );
        check(
            r#"{"http": [{"url": "https://a.example", "sttaus": 1}]}"#,
            "error: cases/f.json: `http[0].sttaus` is not a key\nhint: did you mean `status`?",
        );
        check(
            r#"{"http": [{"status": 200}]}"#,
            "error: cases/f.json: `http[0]` has no `url`",
        );
        check(
            r#"{"http": [{"url": "a.example"}]}"#,
            "error: cases/f.json: `http[0]` is no answer: `a.example` is not a URL; write it like `https://api.example.com/items?page=2`",
        );
        check(
            r#"{"http": [{"url": "https://a.example", "status": 70000}]}"#,
            "error: cases/f.json: `http[0].status`: it has to be a whole number from 200 to 599",
        );
        check(
            r#"{"input": 1, "input_text": "1"}"#,
            "error: cases/f.json: `input_text` stands beside `input`; leave one of the two out",
        );
        check(
            r#"{"input_base64": "*"}"#,
            "error: cases/f.json: `input_base64`: it is not base64: Invalid symbol 42, offset 0.",
        );
        check(
            r#"{"input_file": "nowhere"}"#,
            "error: cases/f.json: `input_file`: failed to read `cases/nowhere`: No such file or directory (os error 2)",
        );
        check(
            r#"{"keyvalue": {"b": {"k": 1}}}"#,
            "error: cases/f.json: `keyvalue.b.k` is a number, and has to be a string, `{\"json\": …}`, `{\"base64\": …}` or `{\"file\": …}`",
        );
        check(
            r#"{"env": {"A": 1}}"#,
            "error: cases/f.json: `env.A` is a number, and has to be a string",
        );
        check(
            r#"{"outcome": "invalid-input"}"#,
            "error: cases/f.json: `outcome`: `invalid-input` is no outcome\nhint: did you mean `invalid_input`?",
        );
        check(
            r#"{"outcome": "trap", "output": 1}"#,
            "error: cases/f.json: `outcome`: only what succeeds has an output",
        );
        check(
            r#"{"message": "a"}"#,
            "error: cases/f.json: `message`: it needs `outcome`: what succeeds has no message",
        );
        check(
            r#"{"content_type": "a/b"}"#,
            "error: cases/f.json: `content_type`: there is no input that it could be of",
        );
        check(
            r#"{"name": "a"}"#,
            "error: cases/f.json: `name`: a case that has its file to itself has the file's name",
        );
        check(
            "[{}]",
            "error: cases/f.json: `[0]` has no `name`, which it needs beside others in one file",
        );
        check(
            r#"[{"name": "a"}, {"name": "a"}]"#,
            "error: cases/f.json: `[1].name`: another case of the file is `a`",
        );
    }

    #[test]
    fn folder_without_cases_says_how_one_looks() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let refused = read(folder.path()).expect_err("there is none");
        let printed = crate::exit::text(&refused.into());
        assert!(
            printed.contains("hint: write one, such as `cases/first.json`: {"),
            "{printed}"
        );
    }
}
