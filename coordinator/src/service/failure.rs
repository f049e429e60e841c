//! Errors of the core, as the other side hears of them: which class, and what to do next.

use crate::dispatch::board::Twin;
use crate::index::IndexError;
use crate::journal::JournalError;
use crate::objects::ObjectError;
use crate::pki::PkiError;
use crate::repository::{BeginError, FactError, ReadError, VerifyError};
use crate::run::RunError;
use crate::run::commit::CommitError;
use crate::run::upload::UploadError;
use crate::store::StoreError;
use crate::store::twice::NotPut;
use crate::trust::TrustError;
use lifeboat_proto::status::{ErrorClass, Failure};

fn class_of_store(error: &StoreError) -> ErrorClass {
    match error {
        StoreError::Full { .. } => ErrorClass::Full,
        StoreError::NotFound { .. } | StoreError::OutOfRange { .. } => ErrorClass::Damaged,
        StoreError::InUse { .. } => ErrorClass::Busy,
        StoreError::ReadOnly { .. } => ErrorClass::Refused,
        StoreError::NoRepository { .. } | StoreError::NotEmpty { .. } => ErrorClass::Usage,
        _ => ErrorClass::Internal,
    }
}

fn class_of_run(error: &RunError) -> ErrorClass {
    match error {
        RunError::NotYours { .. } => ErrorClass::Refused,
        // A new run goes on where this one was.
        RunError::Unknown { .. } | RunError::Ended { .. } | RunError::Committing { .. } => ErrorClass::Busy,
    }
}

fn class_of_journal(error: &JournalError) -> ErrorClass {
    match error {
        JournalError::Store(error) => class_of_store(error),
        JournalError::NotWritten { source, .. } => class_of_store(&source.source),
        JournalError::Unknown { .. } | JournalError::Interrupted(_) => ErrorClass::Unreachable,
        JournalError::LostOwnership { .. } | JournalError::FormerKey { .. } => ErrorClass::Refused,
        JournalError::Trust(TrustError::Store(error)) => class_of_store(error),
        JournalError::Trust(_) => ErrorClass::Damaged,
        JournalError::Broken { .. } | JournalError::Cut { .. } => ErrorClass::Damaged,
        JournalError::Record(_) => ErrorClass::Internal,
    }
}

fn class_of_fact(error: &FactError) -> ErrorClass {
    match error {
        FactError::Journal(error) => class_of_journal(error),
        _ => ErrorClass::Internal,
    }
}

/// Of a store.
pub fn of_store(error: &StoreError) -> Failure {
    Failure::of(class_of_store(error), error)
}

/// Of a small object of the repository.
pub fn of_object(error: &ObjectError) -> Failure {
    match error {
        ObjectError::Store(error) => of_store(error),
        ObjectError::Damaged { .. } => Failure::of(ErrorClass::Damaged, error),
    }
}

/// Of something that was to be recorded.
pub fn of_fact(error: &FactError) -> Failure {
    Failure::of(class_of_fact(error), error)
}

/// Of an agent whose host follows already, from elsewhere.
pub fn of_twin(error: &Twin) -> Failure {
    Failure::of(ErrorClass::Refused, error).hint(
        "stop one of the two, move its state directory (/var/lib/lifeboat-agent) away, and enrol it with a token of its own, \
         under another name; if this server crashed a moment ago, try again in a \
         minute",
    )
}

/// Of a run that was to begin or end.
pub fn of_begin(error: &BeginError) -> Failure {
    let class = match error {
        BeginError::SourceSet { .. } => ErrorClass::Usage,
        BeginError::HostNotActive { .. } => ErrorClass::Refused,
        BeginError::Busy { .. } => ErrorClass::Busy,
        BeginError::Fact(error) => class_of_fact(error),
        _ => ErrorClass::Internal,
    };
    Failure::of(class, error)
}

/// Of asking and sending.
pub fn of_upload(error: &UploadError) -> Failure {
    let class = match error {
        UploadError::Run(error) => class_of_run(error),
        UploadError::Chunk { .. } | UploadError::Node { .. } => ErrorClass::Damaged,
        UploadError::Stopped(_) => ErrorClass::Unreachable,
        _ => ErrorClass::Internal,
    };
    Failure::of(class, error)
}

/// Of a commit.
pub fn of_commit(error: &CommitError) -> Failure {
    let class = match error {
        CommitError::Run(error) => class_of_run(error),
        CommitError::Manifest(_) | CommitError::Envelope(_) => ErrorClass::Usage,
        CommitError::NotThisRun { .. } | CommitError::Put(NotPut::Taken { .. }) => ErrorClass::Busy,
        CommitError::HostNotActive { .. } => ErrorClass::Refused,
        CommitError::Put(NotPut::Failed { source, .. }) => class_of_store(&source.source),
        CommitError::Store(error) => class_of_store(error),
        CommitError::Journal(error) => class_of_journal(error),
        CommitError::Fact(error) => class_of_fact(error),
        CommitError::Stopped(_) => ErrorClass::Unreachable,
        _ => ErrorClass::Internal,
    };
    Failure::of(class, error)
}

/// Of a read.
pub fn of_read(error: &ReadError) -> Failure {
    let class = match error {
        ReadError::Unknown { .. } | ReadError::Damaged { .. } => ErrorClass::Damaged,
        ReadError::Store { source, .. } => class_of_store(source),
        ReadError::Index(_) => ErrorClass::Internal,
    };
    Failure::of(class, error)
}

/// Of the index.
pub fn of_index(error: &IndexError) -> Failure {
    Failure::of(ErrorClass::Internal, error)
}

/// Of a check of the repository.
pub fn of_verify(error: &VerifyError) -> Failure {
    let class = match error {
        VerifyError::NoSuchPack { .. } => ErrorClass::NotFound,
        VerifyError::Fact(error) => class_of_fact(error),
        VerifyError::Index(_) => ErrorClass::Internal,
    };
    Failure::of(class, error)
}

/// Of a certificate.
pub fn of_pki(error: &PkiError) -> Failure {
    let class = match error {
        PkiError::Request => ErrorClass::Usage,
        PkiError::NotAHost => ErrorClass::Refused,
        PkiError::Make { .. } | PkiError::Clock { .. } => ErrorClass::Internal,
    };
    Failure::of(class, error)
}
