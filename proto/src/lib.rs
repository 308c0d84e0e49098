//! The wire format of tq: `tq/v1/*.proto` and the code generated from it. The comments stand in the `.proto` files.

pub mod codec;

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

/// The descriptors of all of `tq.v1`, an encoded `google.protobuf.FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/tq.v1.bin");
