//! Functions that send requests as no honest client does.

use tq_sdk::{Error, Result};
use wasip2::http::outgoing_handler::{FutureIncomingResponse, handle};
use wasip2::http::types::{
    ErrorCode, Fields, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};

/// A GET over plain HTTP to `HOST[:PORT][/PATH]`.
fn request(to: &str) -> Result<OutgoingRequest> {
    request_with(to, Fields::new())
}

fn request_with(to: &str, headers: Fields) -> Result<OutgoingRequest> {
    let request = OutgoingRequest::new(headers);
    let (authority, path) = to.split_at(to.find('/').unwrap_or(to.len()));
    request
        .set_method(&Method::Get)
        .and_then(|()| request.set_scheme(Some(&Scheme::Http)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)))
        .map_err(|()| Error::invalid_input("set"))?;
    Ok(request)
}

fn failed(code: ErrorCode) -> Error {
    Error::fatal(format!("{code:?}"))
}

fn status(response: &FutureIncomingResponse) -> Result<String> {
    response.subscribe().block();
    let response = response.get().and_then(Result::ok);
    let response = response.ok_or_else(|| Error::fatal("no response"))?;
    Ok(response.map_err(failed)?.status().to_string())
}

/// Sends 10,000 requests at once, and returns how many were answered and how many were not.
#[tq_sdk::task]
fn request_flood(to: &str) -> Result<String> {
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..20 {
        let sent: Vec<_> = (0..500)
            .map(|_| handle(request(to)?, None).map_err(failed))
            .collect();
        for response in sent {
            match response.and_then(|response| status(&response)) {
                Ok(_) => answered += 1,
                Err(_) => refused += 1,
            }
        }
    }
    Ok(format!("{answered} {refused}"))
}

/// Sends requests one after the other, until one has no response.
#[tq_sdk::task]
fn requests_until_refused(to: &str) -> Result<String> {
    loop {
        status(&handle(request(to)?, None).map_err(failed)?)?;
    }
}

/// Sends requests and waits for none of them.
#[tq_sdk::task]
fn requests_left(to: &str) -> Result<()> {
    for _ in 0..50 {
        drop(handle(request(to)?, None).map_err(failed)?);
    }
    let held: Vec<_> = (0..50)
        .map(|_| handle(request(to)?, None).map_err(failed))
        .collect();
    std::mem::forget(held);
    Ok(())
}

/// Writes to the body of a request without end.
#[tq_sdk::task]
fn endless_upload(to: &str) -> Result<String> {
    let request = request(to)?;
    let set = request.set_method(&Method::Post);
    set.map_err(|()| Error::invalid_input("method"))?;
    let body = request.body().map_err(|()| Error::fatal("body"))?;
    let response = handle(request, None).map_err(failed)?;
    let stream = body.write().map_err(|()| Error::fatal("stream"))?;
    while stream.blocking_write_and_flush(&[0x5a; 4096]).is_ok() {}
    drop(stream);
    OutgoingBody::finish(body, None).ok();
    status(&response)
}

/// Sends a request, and reads its response without end.
#[tq_sdk::task]
fn endless_download(to: &str) -> Result<String> {
    let response = handle(request(to)?, None).map_err(failed)?;
    response.subscribe().block();
    let response = response.get().and_then(Result::ok);
    let response = response.ok_or_else(|| Error::fatal("no response"))?;
    let body = response.map_err(failed)?.consume();
    let body = body.map_err(|()| Error::fatal("body"))?;
    let stream = body.stream().map_err(|()| Error::fatal("stream"))?;
    let mut read = 0;
    loop {
        match stream.blocking_read(1 << 16) {
            Ok(bytes) => read += bytes.len(),
            Err(error) => return Err(Error::fatal(format!("{read} bytes, then {error:?}"))),
        }
    }
}

/// Puts a million headers into a request.
#[tq_sdk::task]
fn header_flood() -> Result<()> {
    let headers = Fields::new();
    for _ in 0..1_000_000 {
        let taken = headers.append("x", b"y");
        taken.map_err(|error| Error::fatal(format!("{error:?}")))?;
    }
    Ok(())
}

/// Sends a path that is too long, and more headers than there may be.
#[tq_sdk::task]
fn huge_request(to: &str) -> Result<String> {
    let path = format!("{to}/{}", "a".repeat(60_000));
    let long = handle(request(&path)?, None).map_err(failed);
    let long = long.and_then(|response| status(&response));
    let headers = Fields::new();
    for _ in 0..200 {
        let taken = headers.append("x", b"y");
        taken.map_err(|error| Error::fatal(format!("{error:?}")))?;
    }
    let many = handle(request_with(to, headers)?, None).map_err(failed);
    let many = many.and_then(|response| status(&response));
    Ok(format!("{long:?} {many:?}"))
}

/// Gives a request no time at all.
#[tq_sdk::task]
fn zero_timeout(to: &str) -> Result<String> {
    let options = RequestOptions::new();
    let set = options
        .set_connect_timeout(Some(0))
        .and_then(|()| options.set_first_byte_timeout(Some(0)))
        .and_then(|()| options.set_between_bytes_timeout(Some(0)));
    set.map_err(|()| Error::fatal("options"))?;
    status(&handle(request(to)?, Some(options)).map_err(failed)?)
}

/// Tries to set headers that are not the guest's to set, and returns which it could.
#[tq_sdk::task]
fn headers_of_others() -> String {
    const NAMES: &[&str] = &[
        "connection",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let headers = Fields::new();
    let mut set: Vec<String> = NAMES
        .iter()
        .filter(|name| headers.append(name, b"a").is_ok())
        .map(|name| (*name).to_owned())
        .collect();
    let broken: [&[u8]; 3] = [b"a\r\nb: c", b"a\nb", b"a\0"];
    let broken = broken
        .iter()
        .filter(|value| headers.append("x", value).is_ok());
    set.extend(broken.map(|value| format!("{value:?}")));
    let lengths = ["5", "6"].map(|length| headers.append("content-length", length.as_bytes()));
    if lengths.iter().all(Result::is_ok) {
        set.push("two lengths".to_owned());
    }
    set.join(" ")
}
