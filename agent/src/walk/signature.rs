//! By what an entry is known to be unchanged. Pure.

use super::stat::Stat;
use lifeboat_format::tree::Time;

/// A change that is older than this left times which no later change can have. It covers the coarsest file system (FAT
/// keeps every other second), and a write call that goes on for less than this after it has stamped the file. It does not
/// cover a longer one: on a busy disk a call of 2 GiB, the most that one can move, may take most of a minute.
const SETTLED_NANOS: i128 = 3_000_000_000;

/// What the agent remembers of an entry to recognise it.
///
/// The device is left out: its number may change with a restart, and equal inode, size, mtime and ctime on another
/// device are a copy of the file system, with the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Kind and permissions, as in `st_mode`.
    pub mode: u32,
    /// How many bytes its content has.
    pub bytes: u64,
    /// Its inode.
    pub inode: u64,
    /// When its content changed.
    pub mtime: Time,
    /// When anything of it changed.
    pub ctime: Time,
    /// Whether it had changed so shortly before it was read that a later change may carry the same times.
    pub racy: bool,
}

impl Signature {
    /// The signature of an entry that was read from `read_start` on. The time comes from the clock of the host
    /// (`CLOCK_REALTIME`), taken before `stat` was.
    pub fn of(stat: &Stat, read_start: Time) -> Self {
        Self {
            mode: stat.kind.as_raw_mode() | u32::from(stat.mode),
            bytes: stat.bytes,
            inode: stat.inode,
            mtime: stat.mtime,
            ctime: stat.ctime,
            racy: !(is_settled(stat.mtime, read_start) && is_settled(stat.ctime, read_start)),
        }
    }
}

/// Whether an entry need not be read again: size, mtime, ctime, inode and mode are the same, and they had settled
/// before the earlier read began (INV-18).
pub fn is_unchanged(old: &Signature, new: &Signature) -> bool {
    let known = |signature: &Signature| Signature { racy: false, ..*signature };
    !old.racy && known(old) == known(new)
}

/// Whether a change after `start` would have left a time other than `time`.
fn is_settled(time: Time, start: Time) -> bool {
    nanos(start) - nanos(time) > SETTLED_NANOS
}

fn nanos(time: Time) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

#[cfg(test)]
mod tests {
    use super::super::stat::stat_open;
    use super::*;
    use rustix::time::{ClockId, clock_gettime};
    use std::io::{Seek, Write};

    fn now() -> Time {
        let now = clock_gettime(ClockId::Realtime);
        Time { seconds: now.tv_sec, nanos: now.tv_nsec as u32 }
    }

    fn signature(time: Time, start: Time) -> Signature {
        let stat = Stat { mtime: time, ctime: time, ..stat_open(tempfile::tempfile().unwrap()).unwrap() };
        Signature::of(&stat, start)
    }

    #[test]
    fn inv_18_a_file_is_unchanged_only_after_it_had_settled() {
        let time = Time { seconds: 100, nanos: 500_000_000 };
        for (seconds, nanos, settled) in
            [(100, 500_000_000, false), (103, 500_000_000, false), (103, 500_000_001, true)]
        {
            let old = signature(time, Time { seconds, nanos });
            assert_eq!(is_unchanged(&old, &old), settled, "{seconds}.{nanos}");
        }
        let future = signature(Time { seconds: 200, nanos: 1 }, Time { seconds: 100, nanos: 0 });
        assert!(!is_unchanged(&future, &future), "a clock that was set back");
    }

    #[test]
    fn inv_18_every_part_of_the_signature_counts() {
        let old = signature(Time { seconds: 100, nanos: 1 }, Time { seconds: 200, nanos: 0 });
        let other = Time { seconds: 100, nanos: 2 };
        for new in [
            Signature { mode: old.mode ^ 1, ..old },
            Signature { bytes: old.bytes + 1, ..old },
            Signature { inode: old.inode + 1, ..old },
            Signature { mtime: other, ..old },
            Signature { ctime: other, ..old },
        ] {
            assert!(!is_unchanged(&old, &new), "{new:?}");
        }
        assert!(is_unchanged(&old, &Signature { racy: true, ..old }), "only the earlier read must have come late");
    }

    /// A writer replaces the content by as many other bytes right after each read. Whatever the clock of the file
    /// system does, no such change may pass as unchanged.
    #[test]
    fn inv_18_a_write_within_the_same_tick_is_never_overlooked() {
        let mut file = tempfile::tempfile().unwrap();
        let mut same_times = 0;
        for round in 0..2000_u32 {
            let start = now();
            let before = stat_open(&file).unwrap();
            let old = Signature::of(&before, start);
            file.rewind().unwrap();
            file.write_all(&round.to_le_bytes()).unwrap();
            let after = stat_open(&file).unwrap();
            same_times += u32::from(before.ctime == after.ctime && before.bytes == after.bytes);
            assert!(!is_unchanged(&old, &Signature::of(&after, now())), "round {round}");
        }
        println!("{same_times} of 2000 writes left the times as they were");
    }
}
