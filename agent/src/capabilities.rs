//! What the service may do as root, and when it may do it.
//!
//! Reading every file needs few capabilities; restoring owners, devices and attributes needs more, which would let a
//! fault in a backup write anywhere. So the service gives these up at its start, and a thread takes them up again only
//! while it restores on an order that the policy allows. Threads that it starts meanwhile inherit them.

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// What only a restore needs: owners, directories of users, setgid bits, file capabilities, device nodes, and the
/// attributes immutable and append-only. The service unit lists the same.
const RESTORING: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::LINUX_IMMUTABLE);

/// Gives up, for this thread and those it will start, what only a restore needs.
pub fn lay_down() {
    set(|effective, _| effective.difference(RESTORING.difference(reads_by_override(effective))));
}

/// In some containers root reads files by the capability that also writes them, having no other.
fn reads_by_override(effective: CapabilitySet) -> CapabilitySet {
    match effective.contains(CapabilitySet::DAC_READ_SEARCH) {
        true => CapabilitySet::empty(),
        false => CapabilitySet::DAC_OVERRIDE,
    }
}

/// Takes it up for this thread, as far as the process may have it, until the value is dropped.
pub fn take_up() -> Raised {
    let before = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    set(|effective, permitted| effective.union(RESTORING.intersection(permitted)));
    Raised { before }
}

/// While it lives, its thread may restore.
#[must_use]
#[derive(Debug)]
pub struct Raised {
    before: CapabilitySet,
}

impl Drop for Raised {
    fn drop(&mut self) {
        set(|effective, _| effective.difference(RESTORING).union(self.before.intersection(RESTORING)));
    }
}

/// Changes what is in effect. What the system refuses shows where it is needed: that call fails and is named.
fn set(change: impl Fn(CapabilitySet, CapabilitySet) -> CapabilitySet) {
    let Ok(mut sets) = capabilities(None) else { return };
    sets.effective = change(sets.effective, sets.permitted);
    let _ = set_capabilities(None, sets);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective() -> CapabilitySet {
        capabilities(None).unwrap().effective.intersection(RESTORING)
    }

    #[test]
    fn what_a_restore_needs_is_in_effect_only_while_it_restores() {
        // A thread of its own: capabilities are the thread's.
        std::thread::spawn(|| {
            let sets = capabilities(None).unwrap();
            let all = sets.permitted.intersection(RESTORING);
            let kept = reads_by_override(sets.effective).intersection(all);
            lay_down();
            assert_eq!(effective(), kept);
            let raised = take_up();
            assert_eq!(effective(), all);
            assert_eq!(std::thread::spawn(effective).join().unwrap(), all, "a thread started meanwhile has them too");
            drop(raised);
            assert_eq!(effective(), kept);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_reads_files_is_kept() {
        assert_eq!(reads_by_override(CapabilitySet::all()), CapabilitySet::empty());
        assert_eq!(reads_by_override(CapabilitySet::DAC_OVERRIDE), CapabilitySet::DAC_OVERRIDE);
    }

    #[test]
    fn the_service_unit_lists_what_a_restore_needs() {
        let unit = include_str!("../../packaging/systemd/lifeboat-agent.service");
        let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
        for (name, _) in RESTORING.iter_names() {
            assert!(line.split(' ').any(|listed| listed == format!("CAP_{name}")), "{name} is not in {line}");
        }
    }
}
