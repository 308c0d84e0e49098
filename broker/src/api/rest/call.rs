//! Calls of `tq.v1` from within: by the same router that serves gRPC, so that the same gate lets them in and the same log has them.

use axum::Router;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header, uri::PathAndQuery};
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderValue;
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};
use tq_core::limits::MESSAGE_BYTES_MAX;
use tq_proto::codec::Raw;

use crate::api::Peer;

/// Headers that say who calls, from where and for whom: the gate looks at them.
const OF_CALLER: [header::HeaderName; 3] = [header::AUTHORIZATION, header::HOST, header::ORIGIN];

/// The services, and who calls them.
pub(super) struct Calls {
    services: Grpc<Router>,
    headers: HeaderMap,
    peer: Option<Peer>,
}

impl Calls {
    /// On behalf of whoever has sent a request with these parts.
    pub(super) fn of(services: Router, parts: &Parts) -> Self {
        let mut headers = HeaderMap::new();
        for name in OF_CALLER {
            // All of them: which one counts is not decided here.
            for value in parts.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        // HTTP/2 has it in the address of the request.
        let authority = parts.uri.authority().map(|authority| authority.as_str());
        if let Some(Ok(host)) = authority.map(HeaderValue::from_str) {
            headers.insert(header::HOST, host);
        }
        Self {
            services: Grpc::new(services).max_decoding_message_size(MESSAGE_BYTES_MAX),
            headers,
            peer: parts.extensions.get().cloned(),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut extensions = Extensions::new();
        if let Some(peer) = &self.peer {
            extensions.insert(peer.clone());
        }
        let metadata = tonic::metadata::MetadataMap::from_headers(self.headers.clone());
        Request::from_parts(metadata, extensions, message)
    }

    /// One message for one message.
    pub(super) async fn unary(&mut self, call: &str, message: Bytes) -> Result<Bytes, Status> {
        let request = self.request(message);
        self.ready().await;
        let answer = self.services.unary(request, path(call), Raw).await?;
        Ok(answer.into_inner())
    }

    /// Many for one.
    pub(super) async fn server_streaming(
        &mut self,
        call: &str,
        message: Bytes,
    ) -> Result<Streaming<Bytes>, Status> {
        let request = self.request(message);
        self.ready().await;
        let services = &mut self.services;
        let answer = services.server_streaming(request, path(call), Raw).await?;
        Ok(answer.into_inner())
    }

    /// One for many.
    pub(super) async fn client_streaming(
        &mut self,
        call: &str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Bytes, Status> {
        let request = self.request(messages);
        self.ready().await;
        let services = &mut self.services;
        let answer = services.client_streaming(request, path(call), Raw).await?;
        Ok(answer.into_inner())
    }

    async fn ready(&mut self) {
        let Ok(()) = self.services.ready().await;
    }
}

fn path(call: &str) -> PathAndQuery {
    let path = format!("/tq.v1.{call}");
    path.parse()
        .unwrap_or_else(|_| PathAndQuery::from_static("/"))
}
