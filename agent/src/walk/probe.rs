//! Asks a mount that may hang whether it answers, on a thread that can be given up.

use super::held::open_quietly;
use rustix::fs::{AtFlags, OFlags, RawDir, StatxFlags, statx};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// How long a mount may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether `name` in `directory` answers in time. An error is an answer. A thread that waits for one that never comes
/// stays behind, with the directory open, until the mount answers or the process ends.
pub fn answers(directory: &Arc<OwnedFd>, name: &[u8], timeout: Duration) -> bool {
    let (sender, answer) = mpsc::sync_channel(1);
    let (directory, name) = (directory.clone(), name.to_vec());
    let ask = move || {
        touch(&directory, &name);
        // The walk may have given up.
        let _sent = sender.send(());
    };
    match thread::Builder::new().name("mount-probe".into()).spawn(ask) {
        Ok(_detached) => answer.recv_timeout(timeout).is_ok(),
        Err(_) => false,
    }
}

/// What the walk will do with it: look, open, read the first names. What it looks like must not come from a cache.
fn touch(directory: &OwnedFd, name: &[u8]) {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_FORCE_SYNC;
    let _seen = statx(directory, name, flags, StatxFlags::BASIC_STATS);
    if let Ok(open) = open_quietly(directory, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        let mut buffer = vec![MaybeUninit::uninit(); 8 << 10];
        let _first = RawDir::new(&open, &mut buffer).next().is_some();
    }
}
