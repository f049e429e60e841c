//! A part of a snapshot as an archive, unpacked by programs that share no code with ours: GNU tar, Info-ZIP, and Python's
//! `zipfile` and `tarfile`.

use crate::world::{World, noise, refused, said};
use lifeboat_coordinator::cli::demo::compare::{Difference, compare};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Dumps with these arguments into a file of this name.
pub fn dump(world: &World, name: &str, arguments: &[&str]) -> (PathBuf, Output) {
    let file = world.path(name);
    let mut command = world.lab.lifeboat_command();
    let output = command.arg("dump").args(arguments).stdout(fs::File::create(&file).unwrap()).output().unwrap();
    (file, output)
}

pub fn untar(archive: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    let mut command = Command::new("tar");
    command.args([
        "--extract",
        "--same-permissions",
        "--same-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--warning=no-timestamp",
        "--warning=no-unknown-keyword",
    ]);
    let output = command.arg("--file").arg(archive).arg("--directory").arg(to).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
}

/// Its directory is made.
pub fn unzip(archive: &Path, to: &Path) {
    let output = Command::new("unzip").arg("-q").arg(archive).arg("-d").arg(to).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
}

fn python(code: &str, archive: &Path) -> Value {
    let python = std::env::var("LIFEBOAT_PYTHON").unwrap();
    let output = Command::new(python).arg("-c").arg(code).arg(archive).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Files of all lengths, with holes in every place, and with several names.
fn fill(world: &World) {
    for (at, bytes) in [0, 1, 511, 512, 513, 100_000, 3_000_000].into_iter().enumerate() {
        world.write(&format!("files/{at}"), &noise(at as u64, bytes));
    }
    world.write(&format!("{}/{}", "d".repeat(120), "n".repeat(200)), b"a long path");
    fs::hard_link(world.source().join("files/5"), world.source().join("second name")).unwrap();
    let holes = [(0, 40_960), (8_192, 40_960), (4_096, 4_096 * 9 + 77), (1 << 20, 9 << 20)];
    for (at, (start, end)) in holes.into_iter().enumerate() {
        let path = world.source().join(format!("holes-{at}"));
        let file = fs::File::create(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &noise(at as u64, 5_000), start).unwrap();
        file.set_len(end).unwrap();
    }
    fs::File::create(world.source().join("only a hole")).unwrap().set_len(1 << 30).unwrap();
}

#[test]
fn a_tar_unpacks_to_what_was_backed_up() {
    let world = World::new();
    fill(&world);
    world.backed_up();
    let (archive, output) = dump(&world, "a.tar", &[&world.address(), "--format", "tar"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(fs::metadata(&archive).unwrap().len() < 20 << 20, "holes are not written out");
    untar(&archive, &world.path("untarred"));
    let differences = compare(&world.source(), &world.path("untarred")).unwrap().differences;
    assert!(differences.is_empty(), "{differences:?}");
    let read = python(
        "import tarfile, json, sys, hashlib\n\
         t = tarfile.open(sys.argv[1])\n\
         print(json.dumps({m.name: [m.size, hashlib.sha256(t.extractfile(m).read()).hexdigest()]\n\
             for m in t if m.isreg() and m.size < 1 << 28}))",
        &archive,
    );
    assert_eq!(read["holes-2"][0], 4_096 * 9 + 77);
    let hash = Command::new("sha256sum").arg(world.source().join("holes-2")).output().unwrap().stdout;
    assert!(String::from_utf8(hash).unwrap().starts_with(read["holes-2"][1].as_str().unwrap()));
}

#[test]
fn a_part_of_a_snapshot_is_chosen_as_for_a_restore() {
    let world = World::new();
    fill(&world);
    world.backed_up();
    let address = format!("{}/second name", world.address());
    let (archive, output) = dump(&world, "one.tar", &[&address, "--format", "tar"]);
    assert!(output.status.success(), "{}", said(&output));
    untar(&archive, &world.path("one"));
    assert_eq!(fs::read(world.path("one/second name")).unwrap(), noise(5, 100_000), "its first name is not chosen");
    let (archive, _) = dump(&world, "some.tar", &[&world.address(), "--include", "holes-*", "--format", "tar"]);
    untar(&archive, &world.path("some"));
    assert_eq!(fs::read_dir(world.path("some")).unwrap().count(), 4);
}

#[test]
fn a_zip_opens_and_what_it_cannot_carry_is_named() {
    let world = World::new();
    fill(&world);
    world.backed_up();
    let (archive, output) = dump(&world, "a.zip", &[&world.address(), "--exclude", "only a hole", "--format", "zip"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("1 entry lost its hard link") && text.contains("/second name: hard link"), "{text}");
    let read = python(
        "import zipfile, json, sys, hashlib, struct\n\
         z = zipfile.ZipFile(sys.argv[1])\n\
         assert z.testzip() is None\n\
         print(json.dumps({i.filename: [i.file_size, i.external_attr >> 16, struct.unpack('<i', i.extra[5:9])[0],\n\
             struct.unpack('<I', i.extra[15:19])[0], hashlib.sha256(z.read(i)).hexdigest()] for i in z.infolist()}))",
        &archive,
    );
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(world.source()).min_depth(1).into_iter().map(Result::unwrap) {
        let name = entry.path().strip_prefix(world.source()).unwrap().to_str().unwrap().to_owned();
        let slash = if entry.file_type().is_dir() { "/" } else { "" };
        let metadata = entry.metadata().unwrap();
        let row = &read[&format!("{name}{slash}")];
        if name == "only a hole" {
            assert!(row.is_null());
            continue;
        }
        seen += 1;
        assert_eq!(row[1], metadata.mode(), "{name}");
        assert_eq!(row[2], metadata.mtime(), "{name}");
        assert_eq!(row[3], metadata.uid(), "{name}");
        if metadata.is_file() {
            assert_eq!(row[0], metadata.len(), "{name}");
            let hash = Command::new("sha256sum").arg(entry.path()).output().unwrap().stdout;
            let wanted = row[4].as_str().unwrap();
            assert!(String::from_utf8_lossy(&hash).trim_start_matches('\\').starts_with(wanted), "{name}");
        }
    }
    assert_eq!(read.as_object().unwrap().len(), seen);
}

#[test]
fn what_is_damaged_is_left_out_and_named_and_nobody_who_reads_ends_it_with_an_error() {
    let world = World::new();
    world.write("damaged", &noise(1, 50_000));
    world.write("other", b"other");
    world.backed_up();
    let packs = walkdir::WalkDir::new(world.path("repository/packs")).into_iter().map(Result::unwrap);
    let packs: Vec<_> = packs.filter(|entry| entry.file_type().is_file()).collect();
    let largest = packs.iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap().path();
    let whole = fs::read(largest).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 3] ^= 1;
    fs::write(largest, damaged).unwrap();
    for format in ["tar", "zip"] {
        let (archive, output) = dump(&world, format, &[&world.address(), "--format", format]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("1 entry was not restored") && text.contains("/damaged: "), "{text}");
        assert!(fs::metadata(archive).unwrap().len() < 50_000);
    }
    fs::write(largest, whole).unwrap();
    let mut command = world.lab.lifeboat_command();
    command.args(["dump", &world.address(), "--format", "tar"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    refused(&child.wait_with_output().unwrap(), &["cannot write the archive", "no whole archive"]);
}

mod as_root {
    use super::*;
    use lifeboat_tests::torture;

    /// All but what tar has no word for: sockets, and inode flags, which GNU tar does not set.
    #[test]
    fn a_tar_of_a_tree_of_everything_carries_everything_that_tar_can() {
        let world = World::new();
        let size = torture::Size { levels: 10, files: 300 };
        torture::build(&world.source(), size);
        let output = world.backup();
        assert!(output.status.success(), "{}", said(&output));
        let (archive, output) = dump(&world, "a.tar", &[&world.address(), "--format", "tar"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        untar(&archive, &world.path("untarred"));
        let found = compare(&world.source(), &world.path("untarred")).unwrap().differences;
        let is_expected = |difference: &&Difference| match difference.what.as_str() {
            "flags" => true,
            "names" => text.contains("tar carries no sockets"),
            _ => false,
        };
        let unexpected: Vec<_> = found.iter().filter(|difference| !is_expected(difference)).collect();
        assert!(unexpected.is_empty(), "{unexpected:?}");
        torture::remove(&world.source());
        torture::remove(&world.path("untarred"));
    }
}
