//! Pages of the reference that only the broker can write: `docs/reference/api.md`, of the protocol with its comments, the table of requests
//! and that of roles, and `docs/reference/errors.md`.
//!
//! `TQ_BLESS=1 cargo test --release -p tq-broker --lib reference` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, ServiceDescriptor};
use tonic::Code;

use super::bindings::{self, OF_NODES};
use super::openapi::{Comments, comments, compiled};
use super::problem::meaning;
use crate::access::CALLS;

fn check_fresh(page: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    let path = path.join(page);
    if std::env::var_os("TQ_BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == expected,
        "docs/reference/{page} is stale: run `cargo xtask generate`"
    );
}

/// What the page of the interface is made of.
struct Page {
    comments: Comments,
    text: String,
}

impl Page {
    /// A comment as it stands in a cell.
    fn comment(&self, name: &str) -> String {
        let comment = self.comments.get(name).map_or("", String::as_str);
        comment.replace('|', "\\|")
    }

    fn service(&mut self, service: &ServiceDescriptor) {
        let name = service.name();
        let comment = self.comment(name);
        write!(self.text, "\n## {name}\n\n").unwrap();
        if !comment.is_empty() {
            write!(self.text, "{comment}\n\n").unwrap();
        }
        self.text.push_str(
            "| call | request of `/v1` | role | takes, gives | |\n|---|---|---|---|---|\n",
        );
        let all = bindings::all();
        for method in service.methods() {
            let call = format!("{name}/{}", method.name());
            let binding = all.iter().find(|binding| binding.call == call).unwrap();
            let access = CALLS.iter().find(|access| access.name == call).unwrap();
            let role = access.action.unwrap().least_role().name();
            let everywhere = if access.is_of_cluster {
                ", for all"
            } else {
                ""
            };
            let message = |is_stream, message: MessageDescriptor| {
                let stream = if is_stream { "stream of " } else { "" };
                format!("{stream}{}", linked(&message))
            };
            writeln!(
                self.text,
                "| `{}` | `{} {}` | {role}{everywhere} | {}, {} | {} |",
                method.name(),
                binding.method,
                binding.path,
                message(method.is_client_streaming(), method.input()),
                message(method.is_server_streaming(), method.output()),
                self.comment(&call),
            )
            .unwrap();
        }
    }

    fn message(&mut self, message: &MessageDescriptor) {
        let name = message.name();
        write!(self.text, "\n### {name}\n\n").unwrap();
        let comment = self.comment(name);
        if !comment.is_empty() {
            write!(self.text, "{comment}\n\n").unwrap();
        }
        self.text.push_str("| field | type | |\n|---|---|---|\n");
        for field in message.fields() {
            let comment = self.comment(&format!("{name}.{}", field.name()));
            let alternative = match field.containing_oneof() {
                Some(oneof) if !field.field_descriptor_proto().proto3_optional() => {
                    format!("one of `{}`", oneof.name())
                }
                _ => String::new(),
            };
            let parts = [alternative, comment].into_iter();
            let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
            let (field, kind) = (field.name(), kind(&field));
            writeln!(self.text, "| `{field}` | {kind} | {} |", parts.join(": ")).unwrap();
        }
    }
}

/// A message or an enumeration, with a link to it where it has something in it.
fn linked(message: &MessageDescriptor) -> String {
    match message.fields().len() {
        0 => "nothing".to_owned(),
        _ => format!("[{0}](#{1})", message.name(), message.name().to_lowercase()),
    }
}

fn of_kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => linked(message),
        Kind::Enum(of) => format!("[{0}](#{1})", of.name(), of.name().to_lowercase()),
        Kind::Double => "double".to_owned(),
        Kind::Float => "float".to_owned(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "int32".to_owned(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "int64".to_owned(),
        Kind::Uint32 | Kind::Fixed32 => "uint32".to_owned(),
        Kind::Uint64 | Kind::Fixed64 => "uint64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::String => "string".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
    }
}

fn kind(field: &FieldDescriptor) -> String {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            unreachable!("a map is of entries");
        };
        return format!("map to {}", of_kind(&entry.map_entry_value_field().kind()));
    }
    let kind = of_kind(&field.kind());
    match (
        field.is_list(),
        field.field_descriptor_proto().proto3_optional(),
    ) {
        (true, _) => format!("list of {kind}"),
        (_, true) => format!("{kind}, or absent"),
        (false, false) => kind,
    }
}

/// The messages and enumerations that may come in a message, by name.
fn reached(
    message: &MessageDescriptor,
    messages: &mut BTreeMap<String, MessageDescriptor>,
    enums: &mut BTreeSet<String>,
) {
    if !message.is_map_entry() {
        let before = messages.insert(message.name().to_owned(), message.clone());
        if before.is_some() {
            return;
        }
    }
    for field in message.fields() {
        match field.kind() {
            Kind::Message(inner) => reached(&inner, messages, enums),
            Kind::Enum(of) => drop(enums.insert(of.full_name().to_owned())),
            _ => {}
        }
    }
}

fn api_page() -> String {
    let files = compiled();
    let comments = comments(&files);
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    let text = "# The interface\n\n\
        Generated from `proto/tq/v1` and the broker's tables by `cargo xtask generate`; do not edit.\n\n\
        Every call of gRPC's `tq.v1`, the request of `/v1` that is the same ([REST](../guides/rest.md) says how messages are JSON), and the least \
        [role](../guides/access.md) that may make it; `for all` is a credential for all namespaces. What hosts and brokers say to each other \
        (`HostLink`) is in `proto/tq/v1/link.proto`. [Errors](errors.md), [limits](limits.md).\n";
    let mut page = Page {
        comments,
        text: text.to_owned(),
    };
    let (mut messages, mut enums) = (BTreeMap::new(), BTreeSet::new());
    let services = pool.services();
    for service in services.filter(|service| !OF_NODES.contains(&service.name())) {
        page.service(&service);
        for method in service.methods() {
            reached(&method.input(), &mut messages, &mut enums);
            reached(&method.output(), &mut messages, &mut enums);
        }
    }
    page.text.push_str("\n## Messages\n");
    for message in messages
        .values()
        .filter(|message| message.fields().len() > 0)
    {
        page.message(message);
    }
    page.text.push_str(
        "\n## Enumerations\n\nIn JSON a value is in lower case, without what all begin with.\n",
    );
    for name in enums {
        let of = pool.get_enum_by_name(&name).unwrap();
        write!(page.text, "\n### {}\n\n", of.name()).unwrap();
        let comment = page.comment(of.name());
        if !comment.is_empty() {
            write!(page.text, "{comment}\n\n").unwrap();
        }
        for value in of.values() {
            let comment = page.comment(&format!("{}.{}", of.name(), value.name()));
            let comment = Some(comment).filter(|comment| !comment.is_empty());
            let comment = comment.map(|comment| format!(": {comment}"));
            writeln!(
                page.text,
                "- `{}`{}",
                value.name(),
                comment.unwrap_or_default()
            )
            .unwrap();
        }
    }
    page.text
}

/// Kinds of refusals: what each means, and what to do about it. Without those that callers never get of a broker.
const KINDS: &[(Code, &str, &str)] = &[
    (
        Code::InvalidArgument,
        "Something of the request is not as it has to be; the text names the field",
        "Change the request; the same is refused again",
    ),
    (
        Code::OutOfRange,
        "A number or a place is outside of what there is",
        "Change the request",
    ),
    (
        Code::Unauthenticated,
        "There is no credential, or it does not hold: expired, rotated, revoked, or wrong",
        "Show a key or token that holds ([access](../guides/access.md))",
    ),
    (
        Code::PermissionDenied,
        "The credential's role or namespaces do not include it; to a broker without access control, a web page from elsewhere",
        "Use another credential, or have this one's role changed; [name the page's origin](../guides/rest.md)",
    ),
    (
        Code::NotFound,
        "There is no such task, module, version, function, queue, key, host or path",
        "Look at what there is; a task may have been removed by [retention](../guides/retention.md)",
    ),
    (
        Code::AlreadyExists,
        "An idempotency key stands for another submit, or a name is taken",
        "Take another key, or send what was sent with it",
    ),
    (
        Code::Aborted,
        "Something came between: an upload went on elsewhere, or what was held is held no longer",
        "Read anew, and try again from there",
    ),
    (
        Code::FailedPrecondition,
        "It cannot be done in the state that things are in: a task that has ended, a module in use, a queue with tasks",
        "Do what the hint says first",
    ),
    (
        Code::ResourceExhausted,
        "A quota or a limit is used up, the broker has [too much to do](../guides/overload.md), its disk is full, or too many credentials were wrong",
        "Wait for as long as it says (`retry_after_ms`, `Retry-After`, `grpc-retry-pushback-ms`); where it says nothing, make room",
    ),
    (
        Code::Unimplemented,
        "There is no such call: the client is newer than the broker, or the address is not a broker's",
        "Replace the broker, or correct the address",
    ),
    (
        Code::Unavailable,
        "The broker stops, cannot read its disk, or has no room to read another large body",
        "Try again; a submit with an idempotency key is taken in once, however often it is sent",
    ),
    (
        Code::Cancelled,
        "The client, or a node between, gave the call up",
        "Try again",
    ),
    (
        Code::DeadlineExceeded,
        "The time that the client gave it is over",
        "Give it more, or ask whether it was done",
    ),
    (
        Code::DataLoss,
        "The broker has less on its disk than it had acknowledged",
        "See [operations](../guides/operations.md)",
    ),
    (
        Code::Internal,
        "Something of tq went wrong; the broker's log says more, over `/v1` beside the id of the request",
        "Report it",
    ),
];

/// What only HTTP has.
const OF_HTTP: &[(&str, &str, &str, &str)] = &[
    (
        "NOT_FOUND",
        "404",
        "`not_found`: there is no such path",
        "[The paths](api.md)",
    ),
    (
        "METHOD_NOT_ALLOWED",
        "405",
        "`unimplemented`: the path has no such method",
        "[The methods](api.md)",
    ),
    (
        "REQUEST_TIMEOUT",
        "408",
        "`deadline_exceeded`: the body took more than 60 s to arrive",
        "Send it faster, or in parts",
    ),
    (
        "LENGTH_REQUIRED",
        "411",
        "`invalid_argument`: an upload does not say its size",
        "Send `content-length`",
    ),
    (
        "PAYLOAD_TOO_LARGE",
        "413",
        "`out_of_range`: a body of JSON is over 20 MiB, or a compressed one is over its limit when it is expanded",
        "Send less at once",
    ),
    (
        "UNSUPPORTED_MEDIA_TYPE",
        "415",
        "`invalid_argument`: the body is not said to be JSON, or has a `content-encoding` other than gzip",
        "Send `content-type: application/json`",
    ),
    (
        "NOT_MODIFIED",
        "304",
        "No error: what `if-none-match` names has not changed",
        "Use what you have",
    ),
    (
        "SERVICE_UNAVAILABLE",
        "503",
        "`unavailable`: four large bodies are being read",
        "Try again",
    ),
    (
        "",
        "431",
        "No problem, and no body: address and headers are over 16 KiB",
        "Send less in the address",
    ),
];

fn errors_page() -> String {
    let mut page = String::from(
        "# Errors\n\nGenerated from the broker's tables by `cargo xtask generate`; do not edit.\n\n\
         Over gRPC a refusal is a status; its message may end with a line `hint: …`, which says what to do. Over `/v1` it is a problem (RFC 9457) of type `urn:tq:problem:CODE`, with the hint as \
         `hint` and the id of the request as `request_id`; several codes share an HTTP status, so go by `code`. What the command line makes of it are its [exit codes](cli.md#exit-codes); how \
         tasks end is another matter: [outcomes](outcomes.md).\n\n\
         | gRPC | HTTP | code | what it means | what to do |\n|---|---|---|---|---|\n",
    );
    for (code, what, remedy) in KINDS {
        let (status, name) = meaning(*code);
        let grpc = format!("{code:?}");
        writeln!(
            page,
            "| {grpc} ({}) | {} | `{name}` | {what} | {remedy} |",
            *code as i32,
            status.as_u16()
        )
        .unwrap();
    }
    page.push_str("\n## Of HTTP alone\n\n| HTTP | what it means | what to do |\n|---|---|---|\n");
    for (_, status, what, remedy) in OF_HTTP {
        writeln!(page, "| {status} | {what} | {remedy} |").unwrap();
    }
    page
}

#[test]
fn reference_of_the_interface_is_fresh() {
    check_fresh("api.md", &api_page());
}

#[test]
fn reference_of_errors_is_fresh() {
    check_fresh("errors.md", &errors_page());
}

#[test]
fn every_refusal_has_its_line() {
    let told: BTreeSet<i32> = KINDS.iter().map(|(code, ..)| *code as i32).collect();
    // `Ok` is none, and nobody says `Unknown`.
    let expected = (0..=16).filter(|code| ![Code::Ok as i32, Code::Unknown as i32].contains(code));
    assert_eq!(told, expected.collect());
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/rest");
    for entry in std::fs::read_dir(own).unwrap() {
        let path = entry.unwrap().path();
        // How a status of gRPC is told is in the first table.
        if path.ends_with("problem.rs")
            || path.extension().is_none_or(|extension| extension != "rs")
        {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for word in source.split("StatusCode::").skip(1) {
            let name: String = word
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect();
            let is_told = OF_HTTP.iter().any(|(told, ..)| *told == name);
            assert!(
                is_told || ["", "OK"].contains(&&*name),
                "{}: {name}",
                path.display()
            );
        }
    }
}
