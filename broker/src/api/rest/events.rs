//! Streams: events as a browser reads them (server-sent events), and the text of a log.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _};
use tokio::time::timeout;
use tonic::Streaming;
use tq_proto::v1;

use super::problem::Problem;
use super::request_id::RequestId;
use super::{decoded, json};

/// How often something is said to one who waits, so that nothing on the way takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream may take to say its first word, which is at once if it is a refusal.
const FIRST: Duration = Duration::from_millis(250);
/// How a client that lost its connection says where it goes on.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// Has a stream go on where the last event left off that its caller has seen, if the caller says so.
pub(super) fn go_on(
    message: &mut DynamicMessage,
    cursor: &str,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let Some(last) = headers.get(LAST_EVENT_ID) else {
        return Ok(());
    };
    let last = last.to_str().unwrap_or_default();
    let field = message.descriptor().get_field_by_name(cursor);
    if let Some(field) = field.filter(|_| !last.is_empty()) {
        // It is newer than what the address says, which is of the first request.
        message.clear_field(&field);
        json::set(message, cursor, last)?;
    }
    Ok(())
}

/// A stream of messages as events, each with where a next request goes on. Ends with an event `end`, or `problem`.
///
/// # Errors
/// What the stream begins with, if that is a refusal.
pub(super) async fn events(
    mut messages: Streaming<Bytes>,
    of: MessageDescriptor,
    cursor: &'static str,
    request: RequestId,
) -> Result<Response, Problem> {
    // What is refused is said at once, and what begins without a word goes on.
    let first = match timeout(FIRST, messages.message()).await {
        Ok(first) => Some(first?),
        Err(_) => None,
    };
    let ends = |event: &str, data: String| Event::default().event(event).data(data);
    let events = stream::unfold((first, Some(messages)), move |(first, messages)| {
        let (of, request) = (of.clone(), request.clone());
        async move {
            let mut messages = messages?;
            let next = match first {
                Some(first) => Ok(first),
                None => messages.message().await,
            };
            let event = match next {
                Ok(Some(bytes)) => match decoded(of, &bytes) {
                    Ok(message) => {
                        let data = json::of_message(&message).to_string();
                        let event = Event::default().data(data);
                        let event = match id(bytes, cursor) {
                            Some(id) => event.id(id),
                            None => event,
                        };
                        return Some((event, (None, Some(messages))));
                    }
                    Err(problem) => ends("problem", problem.json(&request).to_string()),
                },
                Ok(None) => ends("end", "{}".to_owned()),
                Err(status) => ends("problem", Problem::from(status).json(&request).to_string()),
            };
            Some((event, (None, None)))
        }
    });
    let events = Sse::new(events.map(Ok::<_, Infallible>));
    let events = events.keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(events.into_response())
}

/// Where a request goes on behind this message.
fn id(message: Bytes, cursor: &str) -> Option<String> {
    match cursor {
        "after_seq" => {
            let seq = v1::WatchTasksResponse::decode(message).ok()?.seq;
            Some(seq.to_string())
        }
        _ => {
            let log = v1::FollowTaskResponse::decode(message).ok()?.log;
            let cursor = log.into_iter().map(|chunk| chunk.cursor).next_back()?;
            Some(STANDARD.encode(cursor)).filter(|cursor| !cursor.is_empty())
        }
    }
}

/// Tasks as a file of lines. What breaks off breaks the connection off, so that nobody takes a part for the whole.
///
/// # Errors
/// What the stream begins with, if that is a refusal.
pub(super) async fn lines(
    mut messages: Streaming<Bytes>,
    request: Bytes,
) -> Result<Response, Problem> {
    let format = v1::ExportTasksRequest::decode(request).map(|request| request.format());
    let (media_type, name) = match format {
        Ok(v1::ExportFormat::Csv) => ("text/csv; charset=utf-8; header=present", "tasks.csv"),
        _ => ("application/jsonl", "tasks.jsonl"),
    };
    let first = messages.message().await?;
    let lines = stream::unfold((first, Some(messages)), |(first, messages)| async move {
        let mut messages = messages?;
        let next = match first {
            Some(first) => Ok(Some(first)),
            None => messages.message().await,
        };
        let lines = |bytes| v1::ExportTasksResponse::decode(bytes).unwrap_or_default();
        match next {
            Ok(Some(bytes)) => Some((Ok(lines(bytes).data), (None, Some(messages)))),
            Ok(None) => None,
            Err(status) => Some((Err(status), (None, None))),
        }
    });
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}\""));
    if let Ok(disposition) = disposition {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// The log as it was written. What breaks off says why in its last line.
pub(super) fn log(chunks: Streaming<Bytes>) -> Response {
    let text = stream::unfold(Some(chunks), |chunks| async move {
        let mut chunks = chunks?;
        Some(match chunks.message().await {
            Ok(Some(bytes)) => {
                let chunk = v1::LogChunk::decode(bytes).unwrap_or_default();
                (chunk.text, Some(chunks))
            }
            Ok(None) => return None,
            Err(status) => (format!("[tq: {}]\n", status.message()).into(), None),
        })
    });
    let mut response = Response::new(Body::from_stream(text.map(Ok::<_, Infallible>)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
