//! Trees and users that want a restore to write elsewhere.

use crate::round_trip::is_root;
use lifeboat_agent::restore::{Expected, FileSlot, Options, Overwrite, Report, Rules, Step, Target, Writer};
use lifeboat_format::tree::{
    Attributes, Body, Completeness, Device, Entry, EntryKind, Extent, FileContent, Time, Xattr,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A target with a witness beside it, which nothing may touch.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.outside()).unwrap();
        fs::write(place.outside().join("witness"), "untouched").unwrap();
        place
    }

    pub fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    pub fn target(&self) -> PathBuf {
        self.0.path().join("target")
    }

    /// Restores entries whose files hold `content`.
    pub fn restore(&self, entries: Vec<Entry>) -> Report {
        let mut writer = Writer::new(Target::open(&self.target()).unwrap(), Options::default()).unwrap();
        for entry in entries {
            if let Step::Content(slot) = writer.add(entry) {
                write(&slot);
                slot.finish().unwrap();
            }
        }
        writer.finish().unwrap()
    }

    pub fn assert_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.outside()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["witness"]);
        let witness = self.outside().join("witness");
        assert_eq!(fs::read(&witness).unwrap(), b"untouched");
        assert_eq!(fs::metadata(&witness).unwrap().nlink(), 1);
    }
}

fn write(slot: &FileSlot) {
    slot.write_at(0, b"content").unwrap();
}

pub fn entry(path: &str, kind: EntryKind) -> Entry {
    let attributes = match kind {
        EntryKind::HardLink { .. } => Attributes::default(),
        _ => Attributes { mode: 0o755, ..mine() },
    };
    Entry { path: path.into(), kind, attributes }
}

/// Attributes that every user can set.
pub fn mine() -> Attributes {
    let mtime = Time { seconds: 1_000_000_000, nanos: 0 };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Attributes { mode: 0o600, uid, gid, mtime, ..Attributes::default() }
}

pub fn file(path: &str) -> Entry {
    let body = Body::Extents(vec![Extent::Hole { bytes: 7 }]);
    entry(path, EntryKind::File(FileContent { bytes: 7, body }))
}

fn symlink(path: &str, target: &Path) -> Entry {
    use std::os::unix::ffi::OsStrExt;
    entry(path, EntryKind::Symlink { target: target.as_os_str().as_bytes().to_vec() })
}

pub fn directory(path: &str) -> Entry {
    entry(path, EntryKind::Directory(Completeness::COMPLETE))
}

fn link(path: &str, to: &str) -> Entry {
    entry(path, EntryKind::HardLink { to: to.into() })
}

#[test]
fn inv_47_a_link_in_the_tree_leads_nowhere() {
    let place = Place::new();
    let report = place.restore(vec![
        symlink("a", &place.outside()),
        file("a/planted"),
        directory("a/planted too"),
        link("a/witness too", "a/witness"),
        directory("b"),
        link("b/witness", "a/witness"),
        file("b/good"),
    ]);
    place.assert_untouched();
    assert_eq!(fs::read(place.target().join("b/good")).unwrap(), b"content");
    assert_eq!(report.failed_entries, 3, "the link within b asks for content instead: {:?}", report.failures);
    assert!(!place.target().join("b/witness").exists());
}

#[test]
fn inv_47_names_that_climb_and_entries_out_of_order_are_refused() {
    let place = Place::new();
    let entries = vec![
        directory("a"),
        file("a/.."),
        file("a/../../outside/planted"),
        file("/outside/planted"),
        file("a/./b"),
        directory("b"),
        file("a/late"),
        file("b"),
        file(""),
        file("c\0d"),
    ];
    let report = place.restore(entries);
    place.assert_untouched();
    assert_eq!((report.failed_entries, report.entries), (8, 2), "{:?}", report.failures);
    assert_eq!(fs::read_dir(place.target().join("a")).unwrap().count(), 0);
}

#[test]
fn inv_47_while_a_restore_runs_only_its_user_may_enter() {
    let place = Place::new();
    let mut writer = Writer::new(Target::open(&place.target()).unwrap(), Options::default()).unwrap();
    writer.add(Entry { attributes: Attributes { mode: 0o777, ..mine() }, ..directory("") });
    writer.add(Entry { attributes: Attributes { mode: 0o777, ..mine() }, ..directory("open to all") });
    let Step::Content(slot) = writer.add(file("z")) else { panic!() };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&place.target()), 0o700);
    write(&slot);
    slot.finish().unwrap();
    writer.finish().unwrap();
    assert_eq!(mode(&place.target()), 0o777);
    assert_eq!(mode(&place.target().join("open to all")), 0o777);
}

#[test]
fn inv_16_a_file_has_no_name_before_it_is_complete() {
    let place = Place::new();
    let mut writer = Writer::new(Target::open(&place.target()).unwrap(), Options::default()).unwrap();
    writer.add(directory("a"));
    let Step::Content(finished) = writer.add(file("a/finished")) else { panic!() };
    let Step::Content(dropped) = writer.add(file("a/given up")) else { panic!() };
    let Step::Content(failed) = writer.add(file("a/lost")) else { panic!() };
    writer.add(link("a/other name", "a/finished"));
    writer.add(link("a/other name of lost", "a/lost"));
    writer.add(directory("b"));
    write(&finished);
    assert_eq!(fs::read_dir(place.target().join("a")).unwrap().count(), 0);
    finished.finish().unwrap();
    drop(dropped);
    failed.fail("chunk 9f2c41ab is damaged");
    let report = writer.finish().unwrap();
    let mut names: Vec<_> = fs::read_dir(place.target().join("a")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["finished", "other name"]);
    assert_eq!(fs::metadata(place.target().join("a/other name")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(place.target().join("a")).unwrap().mtime(), 1_000_000_000, "completed after its last file");
    let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    assert_eq!(
        failures,
        [
            "/a/given up: not restored: its content was not completed",
            "/a/lost: not restored: chunk 9f2c41ab is damaged",
            "/a/other name of lost: not restored: the file that it is a name of: chunk 9f2c41ab is damaged",
        ]
    );
}

/// By it a restore that goes on knows, after writing into the directory has changed its time, that it may complete it.
#[test]
fn inv_16_a_directory_that_is_entered_bears_a_mark_until_it_has_its_attributes() {
    let place = Place::new();
    let (top, inside) = (place.target(), place.target().join("inside"));
    fs::create_dir_all(&inside).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    for path in [&inside, &top] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::File::open(path).unwrap().set_modified(UNIX_EPOCH).unwrap();
    }
    let rules = Rules { overwrite: Overwrite::IfNewer, ..Rules::default() };
    let target = Target::open_as(&top, Expected::Anything).unwrap();
    let mut writer = Writer::new(target, Options { rules, ..Options::default() }).unwrap();
    let newer = |entry: Entry| {
        let mtime = Time { seconds: 1_000_000_000, nanos: 0 };
        Entry { attributes: Attributes { mtime, mode: 0o755, ..entry.attributes }, ..entry }
    };
    assert!(matches!(writer.add(newer(directory(""))), Step::Settled));
    assert!(matches!(writer.add(newer(directory("inside"))), Step::Settled));
    assert_eq!((mode(&top), mode(&inside)), (0o1755, 0o1755));
    assert!(writer.finish().unwrap().is_complete());
    for path in [&top, &inside] {
        assert_eq!((mode(path), fs::metadata(path).unwrap().mtime()), (0o755, 1_000_000_000));
    }
}

/// The entry of a directory can be a gap though all below it was read.
#[test]
fn what_is_below_a_directory_without_an_entry_is_restored_and_the_directory_is_named() {
    let place = Place::new();
    fs::create_dir_all(place.target().join("there")).unwrap();
    fs::set_permissions(place.target().join("there"), fs::Permissions::from_mode(0o751)).unwrap();
    let target = Target::open_as(&place.target(), Expected::Anything).unwrap();
    let mut writer = Writer::new(target, Options::default()).unwrap();
    let entries = [file("a/b/c"), directory("a/d"), file("a/d/e"), file("b"), file("there/f"), file("z")];
    for entry in entries {
        if let Step::Content(slot) = writer.add(entry) {
            write(&slot);
            slot.finish().unwrap();
        }
    }
    let report = writer.finish().unwrap();
    for path in ["a/b/c", "a/d/e", "b", "there/f", "z"] {
        assert_eq!(fs::read(place.target().join(path)).unwrap(), b"content", "{path}");
    }
    let mode = |path: &str| fs::metadata(place.target().join(path)).unwrap().mode() & 0o7777;
    assert_eq!(["a", "a/b", "a/d", "there"].map(mode), [0o700, 0o700, 0o755, 0o751]);
    let failed: Vec<_> = report.failures.iter().map(|failure| failure.path.as_slice()).collect();
    assert_eq!(failed, [&b"a"[..], b"a/b", b"there"], "{:?}", report.failures);
    assert!(!report.is_complete());
}

#[test]
fn below_a_directory_that_could_not_be_made_nothing_is_made() {
    let place = Place::new();
    let report =
        place.restore(vec![file("a"), directory("b"), link("c", "a"), directory("c"), file("c/d/e"), file("d")]);
    assert_eq!(fs::metadata(place.target().join("c")).unwrap().nlink(), 2, "it is the file");
    let failed: Vec<_> = report.failures.iter().map(|failure| failure.path.as_slice()).collect();
    assert_eq!(failed, [&b"c"[..], b"c/d/e"], "{:?}", report.failures);
}

#[test]
fn a_write_beyond_the_end_of_a_file_is_refused() {
    let place = Place::new();
    let mut writer = Writer::new(Target::open(&place.target()).unwrap(), Options::default()).unwrap();
    let Step::Content(slot) = writer.add(file("a")) else { panic!() };
    assert!(slot.write_at(1, b"content").is_err());
    assert!(slot.write_at(u64::MAX, b"content").is_err());
    assert!(slot.write_zeros(u64::MAX - 1, 5).is_err());
    slot.write_zeros(0, 7).unwrap();
    slot.finish().unwrap();
    assert!(writer.finish().unwrap().is_complete());
}

#[test]
fn inv_16_what_nobody_can_set_is_a_named_loss() {
    let place = Place::new();
    let xattr = Xattr { name: b"nonsense.name".to_vec(), value: b"x".to_vec() };
    let attributes = Attributes { xattrs: vec![xattr], flags: 0x10_0000, ..mine() };
    let report = place.restore(vec![Entry { attributes, ..file("a") }, directory("b")]);
    assert_eq!((report.entries, report.failed_entries), (2, 0));
    let lost: Vec<_> = report.losses.iter().map(|loss| loss.attribute.kind()).collect();
    assert_eq!(lost, ["extended attribute"], "{:?}", report.losses);
}

#[test]
fn a_link_to_what_is_not_in_the_restore_asks_for_content() {
    let place = Place::new();
    let mut writer = Writer::new(Target::open(&place.target()).unwrap(), Options::default()).unwrap();
    assert!(matches!(writer.add(link("b", "a")), Step::FirstIsAbsent));
    let Step::Content(slot) = writer.add(file("b")) else { panic!() };
    write(&slot);
    slot.finish().unwrap();
    assert!(matches!(writer.add(link("c", "b")), Step::Settled));
    let device = EntryKind::CharDevice(Device { major: 1, minor: 3 });
    assert!(matches!(writer.add(entry("d", device)), Step::Settled));
    assert_eq!(writer.finish().unwrap().failed_entries, u64::from(!is_root()));
    assert_eq!(fs::metadata(place.target().join("c")).unwrap().nlink(), 2);
}
