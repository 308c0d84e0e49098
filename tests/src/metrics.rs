//! What a node says of itself at `/metrics`.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wait::within;

/// All metrics of the node at `url`, as text.
///
/// # Panics
/// It does not answer with 200.
pub async fn text(url: &str) -> String {
    let address = url.trim_start_matches("http://");
    let answer = within("GET /metrics", async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    });
    let answer = answer
        .await
        .unwrap_or_else(|error| panic!("GET {url}/metrics: {error}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    assert!(
        head.starts_with("HTTP/1.1 200"),
        "GET {url}/metrics: {head}"
    );
    body.to_owned()
}

/// One sample of the node at `url`, such as `tq_tasks{state="ready"}`; 0 if it is not there, as for a counter that has
/// not counted yet.
///
/// # Panics
/// As [`text`].
pub async fn sample(url: &str, name: &str) -> f64 {
    let text = text(url).await;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| {
        value
            .parse()
            .unwrap_or_else(|error| panic!("`{name} {value}`: {error}"))
    })
}
