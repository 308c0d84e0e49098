//! Why something cannot be done in a scratch directory.

use tq_core::limits::{SCRATCH_NAME_BYTES_MAX, SCRATCH_PATH_BYTES_MAX, SCRATCH_RENAME_DEPTH_MAX};
use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

/// Named as POSIX means them. Guests see the code; the text is for the debug output of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it does not exist")]
    Missing,
    #[error("it exists already")]
    Exists,
    #[error("it is not a directory")]
    NotDirectory,
    #[error("it is a directory")]
    IsDirectory,
    #[error("the directory is not empty")]
    NotEmpty,
    #[error("the path leads out of the directory that it starts from")]
    Outside,
    #[error(
        "a name has more than {SCRATCH_NAME_BYTES_MAX} bytes, or a path more than {SCRATCH_PATH_BYTES_MAX}"
    )]
    NameTooLong,
    #[error("a directory is moved to more than {SCRATCH_RENAME_DEPTH_MAX} levels below the first")]
    TooDeep,
    #[error("it makes no sense")]
    Invalid,
    #[error("a file cannot have so many bytes")]
    FileTooLarge,
    #[error("the limit `scratch` is reached")]
    Full,
    #[error("the host has no memory left")]
    HostShort,
    #[error("it was not opened for that")]
    BadDescriptor,
    #[error("there are no links")]
    Unsupported,
}

impl Fault {
    pub(super) fn code(self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::NoEntry,
            Self::Exists => ErrorCode::Exist,
            Self::NotDirectory => ErrorCode::NotDirectory,
            Self::IsDirectory => ErrorCode::IsDirectory,
            Self::NotEmpty => ErrorCode::NotEmpty,
            Self::Outside => ErrorCode::NotPermitted,
            Self::NameTooLong | Self::TooDeep => ErrorCode::NameTooLong,
            Self::Invalid => ErrorCode::Invalid,
            Self::FileTooLarge => ErrorCode::FileTooLarge,
            Self::Full => ErrorCode::InsufficientSpace,
            Self::HostShort => ErrorCode::InsufficientMemory,
            Self::BadDescriptor => ErrorCode::BadDescriptor,
            Self::Unsupported => ErrorCode::Unsupported,
        }
    }
}

impl From<Fault> for FsError {
    fn from(fault: Fault) -> Self {
        fault.code().into()
    }
}
