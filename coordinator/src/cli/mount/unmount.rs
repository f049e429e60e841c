//! Ends a mount, also one that is in use: the first Ctrl-C asks, the second detaches, a third does not wait. Where
//! nobody can answer (a service that stops, a terminal that is closed) it is detached at once.

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Only if nothing uses it.
    Unused,
    /// At once for every new look; what is open is served until it is closed.
    Detach,
}

/// What to do after a signal.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// It is unmounted: the session ends.
    Wait,
    /// Something to report; the session goes on.
    Report(String),
    /// End the process, and with it what is still open.
    Exit,
}

/// How far the end has come.
#[derive(Debug, Default)]
pub struct Step {
    was_busy: bool,
    detached: bool,
}

impl Step {
    /// What follows from one more signal. `unmount` does it.
    pub fn signal(&mut self, mut unmount: impl FnMut(How) -> io::Result<()>) -> Next {
        if self.detached {
            return Next::Exit;
        }
        match unmount(How::Unused) {
            Ok(()) => Next::Wait,
            Err(error) if error.kind() != io::ErrorKind::ResourceBusy => {
                Next::Report(format!("cannot unmount: {error}; try `umount` as root"))
            }
            Err(_) if !self.was_busy => {
                self.was_busy = true;
                let busy = "still in use (a shell in it, an open file), so it stays mounted";
                Next::Report(format!(
                    "{busy}\nhint: leave it, then press Ctrl-C again; Ctrl-C while it is in use detaches it"
                ))
            }
            Err(_) => self.detach(unmount),
        }
    }

    /// What follows from a signal that nobody will repeat.
    pub fn end(&mut self, mut unmount: impl FnMut(How) -> io::Result<()>) -> Next {
        if self.detached {
            return Next::Exit;
        }
        match unmount(How::Unused) {
            Ok(()) => Next::Wait,
            Err(_) => self.detach(unmount),
        }
    }

    fn detach(&mut self, mut unmount: impl FnMut(How) -> io::Result<()>) -> Next {
        match unmount(How::Detach) {
            Ok(()) => {
                self.detached = true;
                Next::Report("detached; open files are served until they are closed, Ctrl-C ends that".into())
            }
            Err(error) => Next::Report(format!("cannot detach: {error}; try `umount --lazy` as root")),
        }
    }
}

/// Unmounts. That it is unmounted already is no error.
pub fn unmount(mount_point: &Path, how: How) -> io::Result<()> {
    let flags = if how == How::Detach { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match umount2(mount_point, flags) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(Errno::EPERM) => through_helper(mount_point, how),
        Err(error) => Err(error.into()),
    }
}

/// Only root may unmount; fusermount does it for the user who mounted.
fn through_helper(mount_point: &Path, how: How) -> io::Result<()> {
    let flags: &[&str] = if how == How::Detach { &["-u", "-z"] } else { &["-u"] };
    let run =
        |program: &str| Command::new(program).args(flags).arg("--").arg(mount_point).stderr(Stdio::null()).status();
    let status = run("fusermount3").or_else(|_| run("fusermount"))?;
    if status.success() { Ok(()) } else { Err(io::ErrorKind::ResourceBusy.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(_: How) -> io::Result<()> {
        Err(io::ErrorKind::ResourceBusy.into())
    }

    #[test]
    fn a_mount_that_was_busy_is_ended_by_the_next_signal() {
        let mut step = Step::default();
        assert!(matches!(step.signal(busy), Next::Report(text) if text.starts_with("still in use")));
        assert_eq!(step.signal(|_| Ok(())), Next::Wait);
    }

    #[test]
    fn a_mount_that_stays_busy_is_detached_and_then_ended() {
        let detach = |how| if how == How::Detach { Ok(()) } else { busy(how) };
        let mut step = Step::default();
        step.signal(detach);
        assert!(matches!(step.signal(detach), Next::Report(text) if text.starts_with("detached")));
        assert_eq!(step.signal(|_| panic!("it is unmounted already")), Next::Exit);
    }

    #[test]
    fn where_nobody_can_answer_a_busy_mount_is_detached_at_once() {
        let mut step = Step::default();
        assert!(matches!(step.end(|how| if how == How::Detach { Ok(()) } else { busy(how) }), Next::Report(_)));
        assert_eq!(step.end(|_| panic!("it is unmounted already")), Next::Exit);
        assert_eq!(Step::default().end(|_| Ok(())), Next::Wait);
    }

    #[test]
    fn another_error_is_reported_each_time_and_detaches_nothing() {
        let mut step = Step::default();
        for _ in 0..3 {
            let refused = |how| if how == How::Unused { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) };
            assert!(matches!(step.signal(refused), Next::Report(text) if text.starts_with("cannot unmount")));
        }
    }
}
