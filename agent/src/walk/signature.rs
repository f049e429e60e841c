//! By what an entry is known to be unchanged. Pure.

use super::evidence::Evidence;
use super::stat::Stat;
use lifeboat_format::tree::Time;

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
    /// Whether a later change may carry the same times: it had changed shortly before it was read, or its file system
    /// does not vouch for them.
    pub racy: bool,
}

impl Signature {
    /// The signature of an entry that was read from `read_start` on. The time comes from the clock of the host
    /// (`CLOCK_REALTIME`), taken before `stat` was.
    pub fn of(stat: &Stat, read_start: Time, evidence: Evidence) -> Self {
        let is_settled = |time| nanos_between(time, read_start) > evidence.settled_after.as_nanos() as i128;
        Self {
            mode: stat.kind.as_raw_mode() | u32::from(stat.mode),
            bytes: stat.bytes,
            inode: stat.inode,
            mtime: stat.mtime,
            ctime: stat.ctime,
            racy: !(evidence.times && is_settled(stat.mtime) && is_settled(stat.ctime)),
        }
    }
}

/// Whether an entry need not be read again: size, mtime, ctime, inode and mode are the same, and they had settled
/// before the earlier read began (INV-18).
pub fn is_unchanged(old: &Signature, new: &Signature) -> bool {
    let known = |signature: &Signature| Signature { racy: false, ..*signature };
    !old.racy && known(old) == known(new)
}

/// How many nanoseconds lie between two times; negative if `end` is the earlier one.
pub fn nanos_between(start: Time, end: Time) -> i128 {
    let nanos = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    nanos(end) - nanos(start)
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
        of(time, start, Evidence::ORDINARY)
    }

    fn of(time: Time, start: Time, evidence: Evidence) -> Signature {
        let stat = Stat { mtime: time, ctime: time, ..stat_open(tempfile::tempfile().unwrap()).unwrap() };
        Signature::of(&stat, start, evidence)
    }

    #[test]
    fn inv_18_a_file_is_unchanged_only_after_it_had_settled() {
        let time = Time { seconds: 100, nanos: 500_000_000 };
        for (seconds, nanos, settled) in
            [(100, 500_000_000, false), (173, 500_000_000, false), (173, 500_000_001, true)]
        {
            let old = signature(time, Time { seconds, nanos });
            assert_eq!(is_unchanged(&old, &old), settled, "{seconds}.{nanos}");
        }
        let foreign = of(time, Time { seconds: 1_000_000, nanos: 0 }, Evidence { times: false, ..Evidence::ORDINARY });
        assert!(!is_unchanged(&foreign, &foreign), "a file system that does not vouch for its times");
        let future = signature(Time { seconds: 200, nanos: 1 }, Time { seconds: 100, nanos: 0 });
        assert!(!is_unchanged(&future, &future), "a clock that was set back");
    }

    #[test]
    fn inv_18_every_part_of_the_signature_counts() {
        let old = signature(Time { seconds: 100, nanos: 1 }, Time { seconds: 1000, nanos: 0 });
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
            let old = Signature::of(&before, start, Evidence::ORDINARY);
            file.rewind().unwrap();
            file.write_all(&round.to_le_bytes()).unwrap();
            let after = stat_open(&file).unwrap();
            same_times += u32::from(before.ctime == after.ctime && before.bytes == after.bytes);
            assert!(!is_unchanged(&old, &Signature::of(&after, now(), Evidence::ORDINARY)), "round {round}");
        }
        println!("{same_times} of 2000 writes left the times as they were");
    }
}
