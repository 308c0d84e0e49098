//! Bodies that come compressed (RFC 9110, 8.4): how they are expanded, and how far.

use std::io::{self, Read as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use flate2::read::MultiGzDecoder as Reader;
use flate2::write::MultiGzDecoder as Writer;
use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, StatusCode, header};
use tq_core::limits::CHUNK_BYTES;

use super::problem::Problem;

/// What is expanded at once of a stream: it becomes 264 KiB at most, in about half a millisecond.
const SLICE_BYTES: usize = 256;

/// How a body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// What the headers of a request say.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let (first, second) = (values.next(), values.next());
        let name = first.map_or("identity", |value| value.to_str().unwrap_or("?"));
        match &*name.trim().to_ascii_lowercase() {
            "identity" if second.is_none() => Ok(Self::Identity),
            "gzip" | "x-gzip" if second.is_none() => Ok(Self::Gzip),
            _ => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "invalid_argument",
                "the body has a content-encoding that is not known here",
            )
            .with_hint("send it with `content-encoding: gzip`, or as it is")),
        }
    }
}

/// Expands a whole body, of which no more is made than `bytes_max`. Takes a while.
pub(super) fn expand(body: &[u8], bytes_max: usize) -> Result<Bytes, Problem> {
    let mut expanded = Vec::new();
    // One more than it may have, by which it is seen that it has more.
    let read = Reader::new(body)
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut expanded);
    read.map_err(|error| no_gzip(&error))?;
    match expanded.len() > bytes_max {
        true => Err(too_large(bytes_max as u64)),
        false => Ok(expanded.into()),
    }
}

/// What went wrong with a stream that is read elsewhere.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<Problem>>>);

impl Failure {
    /// It, if there was one.
    pub(super) fn take(&self) -> Option<Problem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, problem: Problem) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
    }
}

/// Expands a body as it comes, of which no more is made than `bytes_max`; with more, and with what is no gzip, the stream ends, and
/// `failure` says why. One that breaks off just ends.
pub(super) fn expanded(
    body: Body,
    bytes_max: u64,
    failure: Failure,
) -> impl Stream<Item = Bytes> + Send {
    let expander = Expander::new(bytes_max);
    let body = Box::pin(body.into_data_stream());
    stream::unfold(
        (body, Bytes::new(), Some(expander)),
        move |(mut body, mut input, expander)| {
            let failure = failure.clone();
            async move {
                let mut expander = expander?;
                loop {
                    let next = if input.is_empty() {
                        match body.next().await {
                            Some(Ok(data)) => {
                                input = data;
                                continue;
                            }
                            Some(Err(_)) => return None,
                            None => None,
                        }
                    } else {
                        Some(input.split_to(input.len().min(SLICE_BYTES)))
                    };
                    let step = match &next {
                        Some(slice) => expander.push(slice),
                        None => expander.finish(),
                    };
                    if let Err(problem) = step {
                        failure.set(problem);
                        return None;
                    }
                    let is_last = next.is_none();
                    if is_last || expander.ready() >= CHUNK_BYTES {
                        let made = expander.taken();
                        let expander = (!is_last).then_some(expander);
                        return Some((made, (body, input, expander)));
                    }
                }
            }
        },
    )
}

struct Expander {
    writer: Writer<Sink>,
    bytes_max: u64,
}

/// Takes what is made, as long as it may be.
struct Sink {
    made: Vec<u8>,
    left: u64,
    is_full: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.made.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Expander {
    fn new(bytes_max: u64) -> Self {
        let sink = Sink {
            made: Vec::new(),
            left: bytes_max,
            is_full: false,
        };
        Self {
            writer: Writer::new(sink),
            bytes_max,
        }
    }

    fn push(&mut self, slice: &[u8]) -> Result<(), Problem> {
        let written = self.writer.write_all(slice);
        self.checked(written)
    }

    fn finish(&mut self) -> Result<(), Problem> {
        let finished = self.writer.try_finish();
        self.checked(finished)
    }

    fn checked(&self, done: io::Result<()>) -> Result<(), Problem> {
        done.map_err(|error| match self.writer.get_ref().is_full {
            true => too_large(self.bytes_max),
            false => no_gzip(&error),
        })
    }

    fn ready(&self) -> usize {
        self.writer.get_ref().made.len()
    }

    fn taken(&mut self) -> Bytes {
        std::mem::take(&mut self.writer.get_mut().made).into()
    }
}

fn too_large(bytes_max: u64) -> Problem {
    let detail = format!("the body, expanded, is over the limit of {bytes_max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "out_of_range", detail)
}

fn no_gzip(error: &io::Error) -> Problem {
    Problem::invalid(format!("the body is no gzip: {error}"))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::api::rest::request_id::RequestId;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// By both ways; `None` is a refusal, which is of the size or is not.
    async fn check(body: &[u8], bytes_max: usize, expected: Result<&[u8], bool>) {
        let is_of_size = |problem: &Problem| problem.json(&RequestId::new("x"))["status"] == 413;
        let whole = expand(body, bytes_max).map_err(|problem| is_of_size(&problem));
        assert_eq!(whole.as_deref(), expected.as_ref().map(|text| &**text));
        let failure = Failure::default();
        let parts = body.chunks(1_000).map(Bytes::copy_from_slice);
        let parts: Vec<_> = parts.map(Ok::<_, io::Error>).collect();
        let body = Body::from_stream(stream::iter(parts));
        let made = expanded(body, bytes_max as u64, failure.clone());
        let made: Vec<Bytes> = made.collect().await;
        let streamed = match failure.take() {
            Some(problem) => Err(is_of_size(&problem)),
            None => Ok(made.concat()),
        };
        assert_eq!(streamed.as_deref(), expected.as_ref().map(|text| &**text));
    }

    #[tokio::test]
    async fn bodies_are_expanded_up_to_their_limit() {
        let text = b"0123456789".repeat(100_000);
        let packed = gzip(&text);
        check(&packed, text.len(), Ok(&text)).await;
        check(&packed, text.len() - 1, Err(true)).await;
        // Members in a row are one body.
        let twice = [gzip(b"one "), gzip(b"two")].concat();
        check(&twice, 100, Ok(b"one two")).await;
        check(&packed[..packed.len() - 9], text.len(), Err(false)).await;
        check(b"{\"tasks\": []}", 100, Err(false)).await;
        let mut damaged = packed.clone();
        let sum = damaged.len() - 6;
        damaged[sum] ^= 1;
        check(&damaged, text.len(), Err(false)).await;
    }

    #[test]
    fn only_one_coding_is_known() {
        for (values, expected) in [
            (&[][..], Some(Coding::Identity)),
            (&["identity"], Some(Coding::Identity)),
            (&["GZIP"], Some(Coding::Gzip)),
            (&["x-gzip"], Some(Coding::Gzip)),
            (&["zstd"], None),
            (&["gzip, gzip"], None),
            (&["gzip", "gzip"], None),
        ] {
            let values = values.iter();
            let headers = values.map(|value| (header::CONTENT_ENCODING, value.parse().unwrap()));
            assert_eq!(Coding::of(&headers.collect()).ok(), expected);
        }
    }
}
