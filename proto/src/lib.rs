//! The wire format of tq: `tq/v1/*.proto` and the code generated from it. The comments stand in the `.proto` files.

pub mod bearer;
pub mod codec;

pub use bearer::{Bearer, InTheClear, NoCredential, is_loopback};

/// Version 1 of the protocol.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated code"
)]
#[rustfmt::skip]
pub mod v1 {
    include!("generated/tq.v1.rs");
}

/// Metadata of a refusal: after how many milliseconds the same call may succeed. The name and its meaning are those of gRPC's
/// retry design (gRFC A6, *pushback*).
pub const RETRY_PUSHBACK_MS: &str = "grpc-retry-pushback-ms";

/// The descriptors of all of `tq.v1`, an encoded `google.protobuf.FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/tq.v1.bin");
