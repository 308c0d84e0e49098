//! A component as the body of a request.

use axum::body::Body;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tq_core::limits::CHUNK_BYTES;
use tq_proto::v1;
use tq_proto::v1::upload_module_request::Part;

use super::call::Calls;
use super::json::{self, Invalid};
use super::problem::Problem;
use super::query;

/// Says what the body is (RFC 9530), so that it is checked, and that an upload which was cut can go on.
const CONTENT_DIGEST: &str = "content-digest";
/// The name of SHA-256 in it.
const SHA_256: &str = "sha-256=:";
/// What of the header is said by the request itself.
const OF_REQUEST: [&str; 4] = ["namespace", "name", "size_bytes", "digest"];

/// Uploads the body. Returns the answer, encoded.
pub(super) async fn upload(
    calls: &mut Calls,
    call: &str,
    fields: &[(String, String)],
    parts: &Parts,
    body: Body,
) -> Result<Bytes, Problem> {
    let header = header(fields, parts)?;
    let first = v1::UploadModuleRequest {
        part: Some(Part::Header(header)),
    };
    let chunks = body.into_data_stream().flat_map(|data| {
        // One that breaks off ends, and is then shorter than was said.
        let data = data.unwrap_or_default();
        let at = (0..data.len()).step_by(CHUNK_BYTES);
        let chunks: Vec<_> = at
            .map(|at| data.slice(at..data.len().min(at + CHUNK_BYTES)))
            .collect();
        stream::iter(chunks)
    });
    let chunks = chunks.map(|chunk| v1::UploadModuleRequest {
        part: Some(Part::Chunk(chunk)),
    });
    let messages = stream::iter([first]).chain(chunks);
    let messages = messages.map(|message| Bytes::from(message.encode_to_vec()));
    Ok(calls.client_streaming(call, messages).await?)
}

fn header(fields: &[(String, String)], parts: &Parts) -> Result<v1::UploadHeader, Problem> {
    let name = fields.iter().find(|(name, _)| name == "name");
    let name = name.map(|(_, name)| name.clone()).unwrap_or_default();
    let len = parts.headers.get(header::CONTENT_LENGTH);
    let len = len.and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
    let len = len.ok_or_else(|| {
        let detail = "the request has no content-length, which has to be the component's size";
        Problem::new(StatusCode::LENGTH_REQUIRED, "invalid_argument", detail)
    })?;
    let mut header = v1::UploadHeader::default();
    let mut namespace = String::new();
    for (name, text) in query(parts)? {
        match &*name {
            "namespace" => namespace = text,
            "settings" => header = settings(&text)?,
            _ => {
                return Err(Invalid::new(
                    name,
                    "is not known here; there are namespace and settings",
                )
                .into());
            }
        }
    }
    let digest = parts.headers.get(CONTENT_DIGEST);
    let digest = digest.and_then(|digest| {
        digest
            .to_str()
            .ok()?
            .strip_prefix(SHA_256)?
            .strip_suffix(':')
    });
    let digest = digest.and_then(|digest| STANDARD.decode(digest).ok());
    let digest = digest.filter(|digest| digest.len() == 32).ok_or_else(|| {
        Problem::invalid("the request has no content-digest by SHA-256, such as `content-digest: sha-256=:…:` with base64 in between")
            .with_hint("`openssl dgst -sha256 -binary FILE | base64` prints what goes in between")
    })?;
    Ok(v1::UploadHeader {
        namespace,
        name,
        // With what there is of an upload that goes on.
        size_bytes: len.saturating_add(header.offset_bytes),
        digest: digest.into(),
        ..header
    })
}

/// What a header says beside the component.
fn settings(text: &str) -> Result<v1::UploadHeader, Problem> {
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| Invalid::new("settings", format!("is no JSON: {error}")))?;
    for name in OF_REQUEST {
        if value.get(name).is_some() {
            let wrong = "is said by the request itself";
            return Err(Invalid::new(format!("settings.{name}"), wrong).into());
        }
    }
    let pool = DescriptorPool::decode(tq_proto::DESCRIPTORS).ok();
    let of = pool.and_then(|pool| pool.get_message_by_name("tq.v1.UploadHeader"));
    let mut header = DynamicMessage::new(of.ok_or_else(|| Problem::invalid("no descriptors"))?);
    json::fill(&mut header, &value, "settings")?;
    let header = v1::UploadHeader::decode(&*header.encode_to_vec());
    header.map_err(|error| Problem::invalid(error.to_string()))
}
