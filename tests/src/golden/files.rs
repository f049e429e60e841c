//! The files of the golden snapshots, as described: nothing here was ever on a disk.

use lifeboat_format::tree::{Attributes, Completeness, Device, Time, Xattr, compare_paths};

/// One path.
#[derive(Clone)]
pub struct File {
    pub path: Vec<u8>,
    pub kind: Kind,
    pub attributes: Attributes,
}

/// What is there.
#[derive(Clone)]
pub enum Kind {
    Directory(Completeness),
    Content(Vec<Piece>),
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    CharDevice(Device),
    BlockDevice(Device),
    HardLink(Vec<u8>),
}

/// A part of a file's content.
#[derive(Clone, PartialEq)]
pub enum Piece {
    Data(Vec<u8>),
    Hole(u64),
}

/// A constant byte makes equal chunks of the least length. With the keys of `history`, the content hash of this one ends
/// a list of extents: so a list of lists needs few megabytes.
pub const BYTE_THAT_ENDS_LISTS: u8 = 0xc7;

/// Host 1, the first time.
pub fn first() -> Vec<File> {
    let mut files = vec![directory(b"")];
    files.extend(base());
    files.extend(large_files());
    files.extend(odd_names());
    files.extend(special());
    files.extend((0..130).map(|number| small(number, 0)));
    sorted(files)
}

/// Host 1, later: a few small files have changed, one is gone, one is new, a large one has grown, a mode is another.
pub fn second() -> Vec<File> {
    let mut files = first();
    files.retain(|file| file.path != b"many/0007");
    for file in &mut files {
        match file.path.as_slice() {
            b"many/0003" | b"many/0055" | b"many/0101" => file.kind = small(4, 1).kind,
            b"large/log" => file.kind = text_of("log", 0, 2600),
            b"etc/hostname" => file.attributes.mode = 0o600,
            _ => {}
        }
    }
    files.push(small(900, 1));
    sorted(files)
}

/// Host 1, after the group's secret was rotated: what is new is of the new scope, the rest of the old one.
pub fn third() -> Vec<File> {
    let mut files = second();
    files.extend((0..3).map(|number| small(950 + number, 2)));
    files.retain(|file| !file.path.starts_with(b"odd"));
    sorted(files)
}

/// Host 2: a tree without a root and with parents that are not in it, with a path that is longer than the system takes at once, some of host 1's content,
/// and times and owners at their ends.
pub fn of_another_host() -> Vec<File> {
    let mut files: Vec<_> = (0..30).map(|number| small(number, 0)).collect();
    files.extend([10, 20].map(|depth| directory(&deep_path(depth))));
    files.push(incomplete(&deep_path(1), Completeness::ANCESTOR));
    files.push(incomplete(&deep_path(2), Completeness::EXCLUDED | Completeness::CACHE));
    files.push(file([&deep_path(20)[..], b"/bottom"].concat(), "deep down\n"));
    for (name, seconds, nanos) in [("min", i64::MIN, 0), ("max", i64::MAX, 999_999_999)] {
        let mut extreme = file(format!("ends/{name}"), name);
        extreme.attributes.mtime = Time { seconds, nanos };
        extreme.attributes.btime = Some(Time { seconds: -seconds.saturating_add(1), nanos: 1 });
        (extreme.attributes.uid, extreme.attributes.gid) = (u32::MAX - 1, u32::MAX - 1);
        extreme.attributes.flags = 0x0083_c4ff;
        files.push(extreme);
    }
    sorted(files)
}

fn base() -> Vec<File> {
    let mut files =
        vec![directory(b"etc"), file("etc/hostname", "golden\n"), file("etc/empty", ""), directory(b"many")];
    let mut shadow = file("etc/shadow", "root:*:1:0:99999:7:::\n");
    (shadow.attributes.mode, shadow.attributes.gid, shadow.attributes.group) = (0o640, 42, b"shadow".to_vec());
    let mut program = file("etc/program", "#!/bin/sh\nexit 0\n");
    program.attributes.mode = 0o6755;
    program.attributes.xattrs = vec![xattr("security.capability", &hex_of("0100000200040000000000000000000000000000"))];
    files.extend([shadow, program]);
    // '-' and '.' sort before '/', and yet a directory is followed by what is in it.
    files.extend([directory(b"order"), directory(b"order/a"), file("order/a/x", "1"), file("order/a-b", "2")]);
    files.push(file("order/a.b", "3"));
    files
}

fn large_files() -> Vec<File> {
    let lines = |name: &str, from, to| data_of(text_of(name, from, to));
    // Whole pages, so that any file system can hold the holes where they are.
    let mut data = [&lines("sparse", 0, 800)[..], &vec![0; 200_000], &lines("sparse", 0, 900)].concat();
    data.truncate(data.len() & !0xfff);
    let page = b"the end.".repeat(512);
    let with_holes =
        vec![Piece::Hole(1 << 20), Piece::Data(data), Piece::Hole(1 << 16), Piece::Data(page), Piece::Hole(5 << 30)];
    let many_extents = (0..45u32).flat_map(|part| format!("part {part:03} ").repeat(10_000).into_bytes()).collect();
    vec![
        directory(b"large"),
        file_of("large/extents", vec![Piece::Data(many_extents)]),
        File { kind: text_of("log", 0, 2500), ..file("large/log", "") },
        file_of("large/lists", vec![Piece::Data(vec![BYTE_THAT_ENDS_LISTS; 150 << 16])]),
        file_of("large/noise", vec![Piece::Data(noise(16_500))]),
        file_of("large/sparse", with_holes),
        file_of("large/zeros", vec![Piece::Data(vec![0; 100_000])]),
        file_of("large/one-hole", vec![Piece::Hole(1 << 40)]),
    ]
}

fn odd_names() -> Vec<File> {
    let longest = [b'n'; 255];
    let names: [&[u8]; 10] = [
        b"\xff\xfe",
        b"new\nline",
        b"\x1b[2J",
        b" ",
        b"-rf",
        b"100%",
        b"back\\slash",
        "gr\u{fc}n".as_bytes(),
        b"...",
        &longest,
    ];
    let in_directory = |name: &[u8]| [b"odd/", name].concat();
    let mut files: Vec<_> = names.iter().map(|name| file(in_directory(name), "odd")).collect();
    files.push(directory(b"odd"));
    files
}

fn special() -> Vec<File> {
    let of_kind = |path: &str, kind| File { kind, ..file(path, "") };
    let device = |major, minor| Device { major, minor };
    let mut files = vec![
        of_kind("special", Kind::Directory(Completeness::COMPLETE)),
        of_kind("special/fifo", Kind::Fifo),
        of_kind("special/socket", Kind::Socket),
        of_kind("special/null", Kind::CharDevice(device(1, 3))),
        of_kind("special/loop", Kind::BlockDevice(device(7, 1_048_575))),
        of_kind("special/dangling", Kind::Symlink(b"../no/such\xff file".to_vec())),
        of_kind("special/dangling2", Kind::HardLink(b"special/dangling".to_vec())),
        of_kind("special/fifo2", Kind::HardLink(b"special/fifo".to_vec())),
        file("special/linked", "three names\n"),
        of_kind("special/linked2", Kind::HardLink(b"special/linked".to_vec())),
        of_kind("special/zz-linked3", Kind::HardLink(b"special/linked".to_vec())),
    ];
    for file in files.iter_mut().filter(|file| matches!(file.kind, Kind::HardLink(_))) {
        file.attributes = Attributes::default();
    }
    for file in files.iter_mut().filter(|file| matches!(file.kind, Kind::Symlink(_))) {
        file.attributes.mode = 0o777;
    }
    files.extend([before_1970(), with_xattrs(), with_flags()]);
    files
}

fn before_1970() -> File {
    let mut old = file("special/before-1970", "old");
    old.attributes.mtime = Time { seconds: -86_401, nanos: 999_999_999 };
    old.attributes.btime = Some(Time { seconds: -90_000, nanos: 5 });
    old
}

fn with_xattrs() -> File {
    let mut file = file("special/xattrs", "");
    // user::rw-, user:1000:r--, group::r--, mask::rw-, other::r--
    let acl = "0200000001000600ffffffff02000400e803000004000400ffffffff10000600ffffffff20000400ffffffff";
    file.attributes.mode = 0o664;
    file.attributes.xattrs = vec![
        xattr("system.posix_acl_access", &hex_of(acl)),
        xattr("user.binary", &[0, 1, 0xff]),
        xattr("user.empty", b""),
        xattr("user.long", &[b'x'; 1000]),
    ];
    file
}

fn with_flags() -> File {
    let mut file = file("special/nodump", "not for dump");
    file.attributes.flags = 0x40;
    file
}

/// A small file; `edition` changes its content.
fn small(number: u64, edition: u64) -> File {
    let line = format!("small file {number}, edition {edition}\n");
    let mut file = file(format!("many/{number:04}"), &line.repeat(1 + number as usize % 40));
    file.attributes.mtime.seconds += (number * 61) as i64;
    file
}

fn deep_path(depth: usize) -> Vec<u8> {
    let level = |at: usize| format!("{at:02}-{}", "deep-".repeat(43)).into_bytes();
    (1..=depth).map(level).collect::<Vec<_>>().join(&b'/')
}

fn text_of(name: &str, from: usize, to: usize) -> Kind {
    let lines = (from..to).map(|line| format!("{name}: line {line}, and then what all lines say alike, to be long\n"));
    Kind::Content(vec![Piece::Data(lines.collect::<String>().into_bytes())])
}

fn data_of(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Content(pieces) => {
            pieces.into_iter().flat_map(|piece| if let Piece::Data(data) = piece { data } else { vec![] }).collect()
        }
        _ => vec![],
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    noise
}

fn incomplete(path: &[u8], completeness: Completeness) -> File {
    File { kind: Kind::Directory(completeness), ..directory(path) }
}

fn directory(path: &[u8]) -> File {
    let mut file = file_of(path, vec![]);
    (file.kind, file.attributes.mode) = (Kind::Directory(Completeness::COMPLETE), 0o755);
    file
}

fn file(path: impl AsRef<[u8]>, content: &str) -> File {
    let pieces = if content.is_empty() { vec![] } else { vec![Piece::Data(content.as_bytes().to_vec())] };
    file_of(path, pieces)
}

fn file_of(path: impl AsRef<[u8]>, pieces: Vec<Piece>) -> File {
    let attributes = Attributes {
        mode: 0o644,
        owner: b"root".to_vec(),
        group: b"root".to_vec(),
        mtime: Time { seconds: 1_700_000_000, nanos: 123_456_789 },
        ..Attributes::default()
    };
    File { path: path.as_ref().to_vec(), kind: Kind::Content(pieces), attributes }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.into() }
}

fn hex_of(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn sorted(mut files: Vec<File>) -> Vec<File> {
    files.sort_by(|a, b| compare_paths(&a.path, &b.path));
    files
}
