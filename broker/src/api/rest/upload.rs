//! A component as the body of a request.

use std::future::ready;

use axum::body::Body;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::Either;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tq_core::limits::CHUNK_BYTES;
use tq_proto::v1;
use tq_proto::v1::upload_module_request::Part;

use super::call::Calls;
use super::coding::{self, Coding, Failure};
use super::json::{self, Invalid};
use super::problem::Problem;
use super::{WHO_AM_I, content_length, query};

/// The call that it is.
const UPLOAD: &str = "ModuleService/UploadModule";
/// Says what the body is (RFC 9530), so that it is checked, and that an upload which was cut can go on.
pub(super) const CONTENT_DIGEST: &str = "content-digest";
/// The name of SHA-256 in it.
const SHA_256: &str = "sha-256=:";
/// What of the header is said by the request itself.
const OF_REQUEST: [&str; 4] = ["namespace", "name", "size_bytes", "digest"];
/// What is, if the body comes compressed: its length and its digest are then of other bytes than the component's.
pub(super) const OF_ADDRESS: [&str; 2] = ["namespace", "name"];

/// Uploads the body. Returns the answer, encoded.
pub(super) async fn upload(
    calls: &mut Calls,
    method: &MethodDescriptor,
    fields: &[(String, String)],
    parts: &Parts,
    body: Body,
) -> Result<Bytes, Problem> {
    // Before anything is read that takes a while to understand.
    calls.unary(WHO_AM_I, Bytes::new()).await?;
    let coding = Coding::of(&parts.headers)?;
    let header = header(method.parent_pool(), fields, parts, coding)?;
    let rest = header.size_bytes.saturating_sub(header.offset_bytes);
    let first = v1::UploadModuleRequest {
        part: Some(Part::Header(header)),
    };
    // One that breaks off ends: it is shorter than was said then, and is kept to go on with. It may not be asked again, since it breaks
    // off again each time.
    let failure = Failure::default();
    let whole = match coding {
        Coding::Identity => {
            let whole = body.into_data_stream();
            Either::Left(whole.scan((), |(), data| ready(data.ok())))
        }
        Coding::Gzip => Either::Right(coding::expanded(body, rest, failure.clone())),
    };
    let chunks = whole.flat_map(|data: Bytes| {
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
    let answer = calls.client_streaming(UPLOAD, messages).await;
    // What ended the stream early says more than what was made of that.
    match failure.take() {
        Some(problem) => Err(problem),
        None => Ok(answer?),
    }
}

fn header(
    pool: &DescriptorPool,
    fields: &[(String, String)],
    parts: &Parts,
    coding: Coding,
) -> Result<v1::UploadHeader, Problem> {
    let name = fields.iter().find(|(name, _)| name == "name");
    let name = name.map(|(_, name)| name.clone()).unwrap_or_default();
    let (mut header, mut namespace) = (None, None);
    for (name, text) in query(parts)? {
        let is_first = match &*name {
            "namespace" => namespace.replace(text).is_none(),
            "settings" => header.replace(text).is_none(),
            _ => {
                let wrong = "is not known here; there are namespace and settings";
                return Err(Invalid::new(name, wrong).into());
            }
        };
        if !is_first {
            return Err(Invalid::new(name, "is given twice").into());
        }
    }
    let header = header.map_or_else(
        || Ok(v1::UploadHeader::default()),
        |text| settings(pool, &text, coding),
    )?;
    let header = v1::UploadHeader {
        namespace: namespace.unwrap_or_default(),
        name,
        ..header
    };
    match coding {
        Coding::Identity => whole(header, parts),
        Coding::Gzip if header.size_bytes == 0 || header.digest.len() != 32 => {
            let wrong = "has no size_bytes and digest of the component, which a compressed body does not say";
            Err(Problem::from(Invalid::new("settings", wrong))
                .with_hint("`settings={\"size_bytes\": …, \"digest\": {\"base64\": …}}` has its size and SHA-256 before it was compressed"))
        }
        Coding::Gzip => Ok(header),
    }
}

/// A header with what the request says of a component that comes as it is.
fn whole(header: v1::UploadHeader, parts: &Parts) -> Result<v1::UploadHeader, Problem> {
    let len = content_length(parts).ok_or_else(|| {
        let detail = "the request has no content-length, which has to be the component's size";
        Problem::new(StatusCode::LENGTH_REQUIRED, "invalid_argument", detail)
    })?;
    // A dictionary: there may be others beside it.
    let digest = parts.headers.get(CONTENT_DIGEST);
    let mut members = digest
        .and_then(|digest| digest.to_str().ok())
        .unwrap_or_default()
        .split(',');
    let digest = members.find_map(|member| member.trim().strip_prefix(SHA_256)?.strip_suffix(':'));
    let digest = digest.and_then(|digest| STANDARD.decode(digest).ok());
    let digest = digest.filter(|digest| digest.len() == 32).ok_or_else(|| {
        Problem::invalid("the request has no content-digest by SHA-256, such as `content-digest: sha-256=:…:` with base64 in between")
            .with_hint("`openssl dgst -sha256 -binary FILE | base64` prints what goes in between")
    })?;
    Ok(v1::UploadHeader {
        // With what there is of an upload that goes on.
        size_bytes: len.saturating_add(header.offset_bytes),
        digest: digest.into(),
        ..header
    })
}

/// What a header says beside the component.
fn settings(
    pool: &DescriptorPool,
    text: &str,
    coding: Coding,
) -> Result<v1::UploadHeader, Problem> {
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| Invalid::new("settings", format!("is no JSON: {error}")))?;
    let of_request = match coding {
        Coding::Identity => &OF_REQUEST[..],
        Coding::Gzip => &OF_ADDRESS,
    };
    for name in of_request {
        if value.get(*name).is_some() {
            let wrong = "is said by the request itself";
            return Err(Invalid::new(format!("settings.{name}"), wrong).into());
        }
    }
    let of = pool.get_message_by_name("tq.v1.UploadHeader");
    let mut header =
        DynamicMessage::new(of.ok_or_else(|| Problem::bug("there is no such message"))?);
    json::fill(&mut header, &value, "settings")?;
    let header = v1::UploadHeader::decode(&*header.encode_to_vec());
    header.map_err(|error| Problem::invalid(error.to_string()))
}
