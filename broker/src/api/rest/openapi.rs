//! The OpenAPI document of `/v1`, made of the table of requests and of `proto/tq/v1` with its comments.
//!
//! `TQ_BLESS=1 cargo test --release -p tq-broker --lib openapi` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use prost_types::FileDescriptorSet;
use serde_json::{Map, Value, json};

use super::bindings::{self, Binding, Shape};
use super::{NAMESPACE, json, method, problem, upload};

/// Comments by what they are about: `Message`, `Message.field`, `Service`, `Service/Method`, `Enum`, `Enum.VALUE`.
pub(super) type Comments = BTreeMap<String, String>;

pub(super) fn compiled() -> FileDescriptorSet {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let files = std::fs::read_dir(proto.join("tq/v1")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    protox::compile(&files, [proto]).unwrap()
}

/// Source locations are paths of numbers: see `descriptor.proto`.
pub(super) fn comments(files: &FileDescriptorSet) -> Comments {
    let mut comments = Comments::new();
    for file in &files.file {
        let info = file.source_code_info.as_ref().unwrap();
        for location in &info.location {
            let text = location.leading_comments.as_deref().unwrap_or_default();
            let at = |index: i32| usize::try_from(index).unwrap();
            let name = match location.path[..] {
                [4, message] => file.message_type[at(message)].name().to_owned(),
                [4, message, 2, field] => {
                    let message = &file.message_type[at(message)];
                    format!("{}.{}", message.name(), message.field[at(field)].name())
                }
                [5, of] => file.enum_type[at(of)].name().to_owned(),
                [5, of, 2, value] => {
                    let of = &file.enum_type[at(of)];
                    format!("{}.{}", of.name(), of.value[at(value)].name())
                }
                [6, service] => file.service[at(service)].name().to_owned(),
                [6, service, 2, method] => {
                    let service = &file.service[at(service)];
                    format!("{}/{}", service.name(), service.method[at(method)].name())
                }
                _ => continue,
            };
            if !text.is_empty() {
                let lines = text.lines().map(str::trim);
                comments.insert(name, lines.collect::<Vec<_>>().join(" ").trim().to_owned());
            }
        }
    }
    comments
}

/// What describes it, with the messages that it refers to.
struct Document {
    comments: Comments,
    schemas: Map<String, Value>,
    /// What is described now is sent to the broker.
    is_of_requests: bool,
}

impl Document {
    fn described(&self, name: &str, mut schema: Value) -> Value {
        if let Some(comment) = self.comments.get(name) {
            schema["description"] = comment.clone().into();
        }
        schema
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let name = format!("{}.{}", field.parent_message().name(), field.name());
        let schema = if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                unreachable!("a map is of entries");
            };
            let value = self.kind(&entry.map_entry_value_field().kind());
            json!({"type": "object", "additionalProperties": value})
        } else if field.is_list() {
            json!({"type": "array", "items": self.kind(&field.kind())})
        } else {
            self.kind(&field.kind())
        };
        self.described(&name, schema)
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"$ref": "#/components/schemas/Bytes"}),
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Enum(of) => {
                let names: Vec<_> = json::names(of).into_iter().map(|(name, _)| name).collect();
                let schema = self.described(of.name(), json!({"type": "string", "enum": names}));
                self.schemas.insert(of.name().to_owned(), schema);
                json!({"$ref": format!("#/components/schemas/{}", of.name())})
            }
            Kind::Message(of) => self.message(of, &BTreeSet::new()),
            number_kind => {
                let (least, most) = json::range(number_kind);
                let number = |value: i128| match u64::try_from(value) {
                    Ok(value) => Value::from(value),
                    Err(_) => Value::from(i64::try_from(value).unwrap()),
                };
                let format = match number_kind {
                    Kind::Uint32 | Kind::Fixed32 => "uint32",
                    Kind::Uint64 | Kind::Fixed64 => "uint64",
                    Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "int32",
                    _ => "int64",
                };
                json!({"type": "integer", "format": format, "minimum": number(least), "maximum": number(most)})
            }
        }
    }

    /// A reference to a message, without some of its fields.
    fn message(&mut self, of: &MessageDescriptor, without: &BTreeSet<&str>) -> Value {
        let name = of.name().to_owned();
        if !self.schemas.contains_key(&name) {
            // First, so that a message may have itself in it.
            self.schemas.insert(name.clone(), Value::Null);
            let fields = of.fields().filter(|field| !without.contains(field.name()));
            let properties: Map<_, _> = fields
                .map(|field| (field.name().to_owned(), self.field(&field)))
                .collect();
            let mut schema = json!({"type": "object", "properties": properties});
            if self.is_of_requests {
                schema["additionalProperties"] = false.into();
            } else {
                // There may be others some day: who reads them passes over what they do not know.
                let always = of.fields().filter(|field| !field.supports_presence());
                let always = always.map(|field| field.name().to_owned());
                schema["required"] = always.collect::<Vec<_>>().into();
            }
            let schema = self.described(&name, schema);
            self.schemas.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// What of a message may stand in the query: also the fields of messages in it.
    fn query(
        &mut self,
        of: &MessageDescriptor,
        without: &BTreeSet<&str>,
        prefix: &str,
    ) -> Vec<Value> {
        let mut parameters = Vec::new();
        for field in of.fields().filter(|field| !without.contains(field.name())) {
            let name = format!("{prefix}{}", field.name());
            match field.kind() {
                Kind::Message(inner) if !field.is_list() => {
                    parameters.extend(self.query(&inner, &BTreeSet::new(), &format!("{name}.")));
                }
                Kind::Bytes => {
                    let schema = json!({"type": "string", "contentEncoding": "base64"});
                    parameters.push(json!({"name": name, "in": "query", "schema": schema}));
                }
                _ => {
                    let mut schema = self.field(&field);
                    let description = schema
                        .as_object_mut()
                        .and_then(|schema| schema.remove("description"));
                    let mut parameter = json!({"name": name, "in": "query", "schema": schema});
                    if let Some(description) = description {
                        parameter["description"] = description;
                    }
                    parameters.push(parameter);
                }
            }
        }
        parameters
    }

    /// What a request sends beside its address, if it sends anything.
    fn request(&mut self, pool: &DescriptorPool, binding: &Binding) -> Option<Value> {
        match binding.shape {
            Shape::Body => {
                let input = method(pool, binding.call).unwrap().input();
                let of_address = binding.path_fields().chain([NAMESPACE]).collect();
                Some(self.message(&input, &of_address))
            }
            Shape::Upload => {
                let header = pool.get_message_by_name("tq.v1.UploadHeader").unwrap();
                let of_request = upload::OF_ADDRESS.into();
                Some(self.message(&header, &of_request))
            }
            Shape::Query | Shape::Events(_) | Shape::Log | Shape::Lines => None,
        }
    }

    fn operation(&mut self, pool: &DescriptorPool, binding: &Binding) -> Value {
        let method = method(pool, binding.call).unwrap();
        let (service, name) = binding.call.split_once('/').unwrap();
        let comment = self.comments.get(binding.call).cloned().unwrap_or_default();
        let summary = comment
            .split(". ")
            .next()
            .unwrap_or_default()
            .trim_end_matches('.');
        let summary = match summary {
            "" => spaced(name),
            summary => summary.to_owned(),
        };
        let mut parameters: Vec<Value> = binding
            .path_fields()
            .map(|field| json!({"name": field, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}))
            .collect();
        let of_path: BTreeSet<&str> = binding.path_fields().collect();
        let input = method.input();
        let namespace = json!({
            "name": NAMESPACE, "in": "query", "schema": {"type": "string"},
            "description": "Empty is the credential's if that is for one, or else `default`.",
        });
        let mut operation = json!({
            "operationId": name,
            "tags": [service.trim_end_matches("Service")],
            "summary": summary,
        });
        if !comment.is_empty() {
            operation["description"] = comment.into();
        }
        let mut success = json!({"description": "Done.", "content": {
            "application/json": {"schema": self.message(&method.output(), &BTreeSet::new())},
        }});
        match binding.shape {
            Shape::Query => parameters.extend(self.query(&input, &of_path, "")),
            Shape::Body => {
                if input.get_field_by_name(NAMESPACE).is_some() {
                    parameters.push(namespace);
                }
                let schema = self.request(pool, binding);
                operation["requestBody"] =
                    json!({"content": {"application/json": {"schema": schema}}});
            }
            Shape::Events(cursor) => {
                parameters.extend(self.query(&input, &of_path, ""));
                parameters.push(json!({
                    "name": "Last-Event-ID", "in": "header", "schema": {"type": "string"},
                    "description": format!("The id of the last event that was seen; it stands for `{cursor}`."),
                }));
                let schema = self.message(&method.output(), &BTreeSet::new());
                success = json!({
                    "description": "Server-sent events. The data of each is a message; one called `end` or `problem` is the last.",
                    "content": {"text/event-stream": {"schema": {"type": "string"}, "x-event": schema}},
                });
            }
            Shape::Log => {
                parameters.extend(self.query(&input, &of_path, ""));
                success = json!({"description": "The log, as it was written.", "content": {
                    "text/plain": {"schema": {"type": "string"}},
                }});
            }
            Shape::Lines => {
                parameters.extend(self.query(&input, &of_path, ""));
                success = json!({"description": "A file, a line for each task.", "content": {
                    "application/jsonl": {"schema": {"type": "string"}},
                    "text/csv": {"schema": {"type": "string"}},
                }});
            }
            Shape::Upload => {
                parameters.push(namespace);
                let schema = self.request(pool, binding);
                parameters.push(json!({
                    "name": "settings", "in": "query", "content": {"application/json": {"schema": schema}},
                    "description": "What is said about the component. `size_bytes` and `digest` are of a compressed body alone, which has to have them.",
                }));
                parameters.push(json!({
                    "name": "Content-Digest", "in": "header", "required": true, "schema": {"type": "string"},
                    "description": "SHA-256 of the component, unless it comes compressed (RFC 9530): `sha-256=:…:` with base64 in between.",
                }));
                operation["requestBody"] = json!({"required": true, "content": {
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                }});
            }
        }
        operation["parameters"] = parameters.into();
        let problem = json!({"$ref": "#/components/responses/Problem"});
        let too_long = json!({"$ref": "#/components/responses/TooLong"});
        operation["responses"] = json!({"200": success, "431": too_long, "default": problem});
        let request_id = json!({"X-Request-Id": {"$ref": "#/components/headers/RequestId"}});
        operation["responses"]["200"]["headers"] = request_id.clone();
        if (&binding.method, binding.shape) == (&http::Method::GET, Shape::Query) {
            operation["responses"]["304"] = json!({
                "description": "It is as the entity tag in `If-None-Match` says.",
                "headers": request_id,
            });
        }
        operation
    }
}

/// `GetTask` as `Get task`.
fn spaced(name: &str) -> String {
    let mut spaced = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !spaced.is_empty() {
            spaced.push(' ');
            spaced.push(letter.to_ascii_lowercase());
        } else {
            spaced.push(letter);
        }
    }
    spaced
}

fn document() -> Value {
    let files = compiled();
    let comments = comments(&files);
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    let mut document = Document {
        comments,
        schemas: Map::new(),
        is_of_requests: true,
    };
    // First, since what is in both is to be as requests have it.
    for binding in bindings::all() {
        document.request(&pool, &binding);
    }
    document.is_of_requests = false;
    let mut paths = Map::new();
    for binding in bindings::all() {
        let operation = document.operation(&pool, &binding);
        let path = paths.entry(binding.path).or_insert_with(|| json!({}));
        path[binding.method.as_str().to_ascii_lowercase()] = operation;
    }
    document.schemas.insert(
        "Bytes".to_owned(),
        json!({
            "description": "A text is its UTF-8; `base64` is any bytes; `json` is the text of that value. Answers have a text, or `base64`.",
            "oneOf": [
                {"type": "string"},
                {"type": "object", "properties": {"base64": {"type": "string", "contentEncoding": "base64"}}, "required": ["base64"], "additionalProperties": false},
                {"type": "object", "properties": {"json": {}}, "required": ["json"], "additionalProperties": false},
            ],
        }),
    );
    document.schemas.insert(
        "Problem".to_owned(),
        json!({
            "description": "Why a request was not done (RFC 9457).",
            "type": "object",
            "properties": {
                "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                "detail": {"type": "string"}, "code": {"type": "string"},
                "hint": {"type": "string", "description": "What to do about it."},
                "retry_after_ms": {"type": "integer", "description": "After how long the same may be asked for again."},
                "request_id": {"type": "string", "description": "That of `X-Request-Id`."},
            },
            "required": ["type", "title", "status", "detail", "code", "request_id"],
            "additionalProperties": false,
        }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tq",
            "version": "1",
            "description": "What gRPC's `tq.v1` has, over HTTP with JSON. Times are in milliseconds since the Unix epoch. A body may come with `Content-Encoding: gzip`.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        // Without access control, nothing is wanted.
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "schemas": document.schemas,
            // Said by what reads HTTP, before anybody knows what is asked for.
            "responses": {"TooLong": {"description": "The address and the headers have more than 16 KiB."}, "Problem": {"description": "It was not done.", "headers": {
                "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
            }, "content": {
                problem::MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}},
            }}},
            "headers": {"RequestId": {
                "description": "By which the broker's log names the request: what `X-Request-Id` of the request says, if that has at most 128 letters, digits and signs of `-_.:/+=@`, or a new one.",
                "required": true, "schema": {"type": "string"},
            }},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a token."}},
        },
    })
}

#[test]
fn openapi_document_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/rest/openapi.json");
    let expected = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("TQ_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == expected,
        "openapi.json is stale: run `cargo xtask generate`"
    );
}
