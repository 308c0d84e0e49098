//! Answers that were written down before, in place of a network.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::sync::mpsc;
use tq_core::grant::{Destination, DestinationError, Scheme, is_method, is_never_allowed};

use super::request::{Checked, check, origin_form};
use super::{Egress, Failure, Kind, Part, Request, Response, Scope, tcp};

/// A request, and what it is answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    asked: Asked,
    status: u16,
    headers: Vec<(String, Bytes)>,
    body: Bytes,
}

/// What an answer is told by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    method: String,
    destination: Destination,
    path: String,
}

/// Something that is no answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The method is none, or one that nobody may use.
    #[error("`{0}` is not a method that can be sent; write it like `GET`")]
    Method(String),
    /// The URL has another scheme, or none.
    #[error("`{0}` is not a URL; write it like `https://api.example.com/items?page=2`")]
    Url(String),
    /// The URL names no host.
    #[error("`{url}` has no destination: {source}")]
    Destination {
        /// The URL.
        url: String,
        /// What is wrong with it.
        source: DestinationError,
    },
    /// The URL's path is none.
    #[error("`{url}` cannot be asked for: {source}")]
    Path {
        /// The URL.
        url: String,
        /// What is wrong with it.
        source: Failure,
    },
    /// The status is none of a whole answer.
    #[error("`{0}` is not the status of an answer; it may be 200 to 599")]
    Status(u16),
    /// A header is none.
    #[error("header `{0}` has characters that a header cannot have")]
    Header(String),
}

impl Answer {
    /// The answer to this method at this URL.
    ///
    /// # Errors
    /// [`AnswerError`] names what can be no part of a request or of an answer.
    pub fn new(
        method: &str,
        url: &str,
        status: u16,
        headers: Vec<(String, Bytes)>,
        body: Bytes,
    ) -> Result<Self, AnswerError> {
        if !is_method(method) || is_never_allowed(method) {
            return Err(AnswerError::Method(method.to_owned()));
        }
        let not_a_url = || AnswerError::Url(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(not_a_url)?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(not_a_url()),
        };
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        let destination = Destination::parse(scheme, authority);
        let destination = destination.map_err(|source| AnswerError::Destination {
            url: url.to_owned(),
            source,
        })?;
        let path = origin_form(path.to_owned()).map_err(|source| AnswerError::Path {
            url: url.to_owned(),
            source,
        })?;
        let is_final = StatusCode::from_u16(status).is_ok() && (200..600).contains(&status);
        if !is_final {
            return Err(AnswerError::Status(status));
        }
        for (name, value) in &headers {
            let is_header = HeaderName::from_bytes(name.as_bytes()).is_ok()
                && HeaderValue::from_bytes(value).is_ok();
            if !is_header {
                return Err(AnswerError::Header(name.clone()));
            }
        }
        Ok(Self {
            asked: Asked {
                method: method.to_owned(),
                destination,
                path: path.to_string(),
            },
            status,
            headers,
            body,
        })
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            method,
            destination,
            path,
        } = self;
        write!(f, "{method} {destination}{path}")
    }
}

/// Answers the requests of guests from what was written down, and connects to nothing. Grants hold as they do before a network.
#[derive(Debug, Default)]
pub struct Recorded(Mutex<Play>);

#[derive(Debug, Default)]
struct Play {
    /// With whether it was asked for.
    answers: Vec<(Answer, bool)>,
    unanswered: Vec<String>,
}

/// What requests came to that were sent since the answers were written down.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asking {
    /// Requests to which there was no answer, each once, in order: `GET https://a.example/`.
    pub unanswered: Vec<String>,
    /// Answers that nobody asked for, in order.
    pub unused: Vec<String>,
}

/// Requests without an answer that are remembered.
const UNANSWERED_MAX: usize = 100;

impl Recorded {
    /// Writes down what guests are answered, in place of what was. Of several answers to one request each is given once, in order,
    /// and the last one from then on.
    pub fn write_down(&self, answers: Vec<Answer>) {
        *self.play() = Play {
            answers: answers.into_iter().map(|answer| (answer, false)).collect(),
            unanswered: Vec::new(),
        };
    }

    /// Forgets all answers, and says what has become of them.
    pub fn strike(&self) -> Asking {
        let Play {
            answers,
            unanswered,
        } = std::mem::take(&mut *self.play());
        let unused = answers.iter().filter(|(_, is_used)| !is_used);
        Asking {
            unanswered,
            unused: unused.map(|(answer, _)| answer.asked.to_string()).collect(),
        }
    }

    fn answer(&self, scope: &Scope, request: Request) -> Result<Response, Failure> {
        let Checked {
            destination,
            message,
        } = check(request, &scope.grants)?;
        let asked = Asked {
            method: message.method().to_string(),
            destination,
            path: message.uri().to_string(),
        };
        let mut play = self.play();
        let fitting = |(answer, _): &(Answer, bool)| answer.asked == asked;
        let next = play.answers.iter().position(|of| fitting(of) && !of.1);
        let Some(found) = next.or_else(|| play.answers.iter().rposition(fitting)) else {
            let asked = asked.to_string();
            let message = format!("there is no network here, and no answer to `{asked}`");
            if play.unanswered.len() < UNANSWERED_MAX && !play.unanswered.contains(&asked) {
                play.unanswered.push(asked);
            }
            return Err(Failure::Told {
                kind: Kind::Denied,
                is_refusal: false,
                message,
            });
        };
        let (answer, is_used) = &mut play.answers[found];
        *is_used = true;
        let (parts, body) = mpsc::channel(2);
        // There is room for both.
        if !answer.body.is_empty() {
            parts.try_send(Part::Data(answer.body.clone())).ok();
        }
        parts.try_send(Part::End).ok();
        Ok(Response {
            status: answer.status,
            headers: answer.headers.clone(),
            body,
            flow: None,
        })
    }

    fn play(&self) -> MutexGuard<'_, Play> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Egress for Recorded {
    fn send(
        &self,
        scope: Scope,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, Failure>> {
        Box::pin(std::future::ready(self.answer(&scope, request)))
    }

    fn dial(&self, _scope: tcp::Scope) -> Arc<dyn tcp::Dial> {
        Arc::new(Nowhere)
    }
}

/// Connects to nothing.
struct Nowhere;

impl tcp::Dial for Nowhere {
    fn resolve(&self, _name: String) -> BoxFuture<'static, Result<Vec<IpAddr>, tcp::Failure>> {
        Box::pin(std::future::ready(Err(tcp::Failure::NoNetwork)))
    }

    fn connect(
        &self,
        _address: SocketAddr,
    ) -> BoxFuture<'static, Result<tcp::Connection, tcp::Failure>> {
        Box::pin(std::future::ready(Err(tcp::Failure::NoNetwork)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tq_core::{Epoch, TaskId};

    use super::super::Timeouts;
    use super::*;

    fn answer(method: &str, url: &str, body: &'static str) -> Answer {
        let headers = vec![("content-type".to_owned(), Bytes::from_static(b"text/plain"))];
        let body = Bytes::from_static(body.as_bytes());
        Answer::new(method, url, 200, headers, body).unwrap()
    }

    /// What a request is answered with, or why it is not.
    fn ask(recorded: &Recorded, method: &str, authority: &str, path: &str) -> String {
        let grants = ["GET https://a.example", "http://b.example:81"];
        let scope = Scope {
            epoch: Epoch(1),
            namespace: "n".to_owned(),
            task_id: TaskId([1; 16]),
            grants: Arc::new(grants.iter().map(|text| text.parse().unwrap()).collect()),
            timeouts: Timeouts {
                connect: None,
                first_byte: None,
                between_bytes: None,
                total: Duration::from_secs(1),
            },
            response_bytes: 1_000,
        };
        let scheme = match authority {
            "a.example" => Scheme::Https,
            _ => Scheme::Http,
        };
        let request = Request {
            method: method.to_owned(),
            scheme,
            authority: authority.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        match recorded.answer(&scope, request) {
            Err(failure) => failure.to_string(),
            Ok(mut response) => match response.body.try_recv() {
                Ok(Part::Data(data)) => String::from_utf8(data.to_vec()).unwrap(),
                other => format!("{other:?}"),
            },
        }
    }

    #[test]
    fn requests_are_told_by_method_and_url_and_the_last_answer_stays() {
        let recorded = Recorded::default();
        recorded.write_down(vec![
            answer("GET", "https://a.example", "root"),
            answer("GET", "https://A.example:443/x?y=1", "first"),
            answer("GET", "https://a.example/x?y=1", "second"),
            answer("POST", "http://b.example:81/", ""),
        ]);
        assert_eq!(ask(&recorded, "GET", "a.example", "/"), "root");
        for body in ["first", "second", "second"] {
            assert_eq!(ask(&recorded, "GET", "a.example", "/x?y=1"), body);
        }
        let missing = "there is no network here, and no answer to `GET https://a.example/x`";
        assert_eq!(ask(&recorded, "GET", "a.example", "/x"), missing);
        let ungranted = "its module is granted that destination, but not the method `PUT`";
        assert_eq!(ask(&recorded, "PUT", "a.example", "/x"), ungranted);
        let asking = Asking {
            unanswered: vec!["GET https://a.example/x".to_owned()],
            unused: vec!["POST http://b.example:81/".to_owned()],
        };
        assert_eq!(recorded.strike(), asking);
        assert_eq!(recorded.strike(), Asking::default());
    }

    #[test]
    fn without_answers_nothing_is_reached() {
        let recorded = Recorded::default();
        let missing = "there is no network here, and no answer to `POST http://b.example:81/`";
        assert_eq!(ask(&recorded, "POST", "b.example:81", ""), missing);
        let asked = vec!["POST http://b.example:81/".to_owned()];
        assert_eq!(recorded.strike().unanswered, asked);
    }

    #[test]
    fn answers_that_can_be_none_are_refused() {
        let refused = |method, url, status, name: &str| {
            let headers = vec![(name.to_owned(), Bytes::new())];
            let refused = Answer::new(method, url, status, headers, Bytes::new());
            refused.unwrap_err().to_string()
        };
        let url = "https://a.example";
        for (told, expected) in [
            (refused("get", url, 200, "a"), "`get` is not a method"),
            (
                refused("GET", "a.example", 200, "a"),
                "`a.example` is not a URL",
            ),
            (
                refused("GET", "ftp://a.example", 200, "a"),
                "`ftp://a.example` is not a URL",
            ),
            (
                refused("GET", "https://", 200, "a"),
                "`https://` has no destination: ",
            ),
            (
                refused("GET", "https://a.example/#b", 200, "a"),
                "`https://a.example/#b` cannot be asked for: ",
            ),
            (refused("GET", url, 101, "a"), "`101` is not the status"),
            (
                refused("GET", url, 200, "a b"),
                "header `a b` has characters",
            ),
        ] {
            assert!(told.starts_with(expected), "{told}");
        }
    }
}
