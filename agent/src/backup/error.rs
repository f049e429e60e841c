//! Why a backup ended without a snapshot. What concerns one file is a gap, not one of these.

use crate::uplink::UplinkError;
use lifeboat_format::FormatError;
use lifeboat_format::seal::SealError;

/// A backup that did not become a snapshot. What was sent stays, and the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The coordinator refused, or went away.
    #[error("{0}")]
    Uplink(#[from] UplinkError),
    /// A chunk did not open again as it was sealed: memory or processor are not to be trusted (INV-12).
    #[error("what was sealed does not open again as it was; nothing of it was sent; test this machine's memory")]
    Seal(#[from] SealError),
    /// A structure of our own could not be made.
    #[error("cannot lay out the snapshot")]
    Format(#[from] FormatError),
    /// Something local failed.
    #[error("{doing}")]
    Local {
        /// What could not be done, with its object.
        doing: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the agent took for known is no longer there, even when everything was named anew.
    #[error(
        "the coordinator keeps refusing parts of the tree that were sent just now ({nodes} nodes, {chunks} chunks); \
             `lifeboat repository verify` on the coordinator shows what is wrong with the repository"
    )]
    StillRefused {
        /// How many nodes.
        nodes: usize,
        /// How many chunks.
        chunks: usize,
    },
    /// A call into a file system does not return.
    #[error(
        "given up: nothing moved for {}; a file system of the source does not answer (a network or FUSE mount whose server \
         or program hangs)",
        how_long(*.minutes, *.was_stopped)
    )]
    Hangs {
        /// How long nothing moved.
        minutes: u64,
        /// Whether it had been asked to stop.
        was_stopped: bool,
    },
    /// Somebody asked it to stop.
    #[error("stopped before the end; the next backup goes on from what was sent")]
    Stopped,
}

fn how_long(minutes: u64, was_stopped: bool) -> String {
    if was_stopped { "some seconds after it was asked to stop".to_owned() } else { format!("{minutes} minutes") }
}

impl BackupError {
    /// A failure on this machine.
    pub fn local(doing: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Local { doing: doing.into(), source: source.into() }
    }

    /// Whether the same backup may be tried again soon without anybody's help.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Uplink(error) => error.retry,
            Self::Stopped => true,
            _ => false,
        }
    }
}
