//! Data sets: made from a seed, or taken from this machine. Nothing is shipped.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Numbers that look random and are the same in every run (xorshift64*, Vigna 2016).
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// Starts from a seed, which must not be 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from `low` up to, not including, `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.number() % (high - low)
    }
}

/// `count` small files below `root`, `in_each` in a directory. Each content is its own.
pub fn many_files(root: &Path, count: u64, in_each: u64) -> io::Result<()> {
    let mut numbers = Seeded::new(7);
    for at in 0..count {
        let directory = root.join(format!("d{:05}", at / in_each));
        if at % in_each == 0 {
            fs::create_dir_all(&directory)?;
        }
        let words: Vec<_> = (0..numbers.between(2, 12)).map(|_| format!("{:x}", numbers.number())).collect();
        fs::write(directory.join(format!("file-{at:07}.txt")), words.join(" "))?;
    }
    Ok(())
}

/// A file of bytes that do not compress, others for each seed from 1 on.
pub fn large_file(path: &Path, bytes: u64, seed: u64) -> io::Result<()> {
    let mut file = io::BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    let mut numbers = Seeded::new(seed);
    for _ in 0..bytes / 8 {
        file.write_all(&numbers.number().to_le_bytes())?;
    }
    file.flush()
}

/// Writes something else into a file, at `places` that lie `step` apart, `bytes` at each. How many bytes that are.
pub fn change_places(path: &Path, places: u64, step: u64, bytes: u64) -> io::Result<u64> {
    let file = fs::File::options().write(true).open(path)?;
    let mut numbers = Seeded::new(19);
    for place in 0..places {
        let other: Vec<u8> = (0..bytes / 8).flat_map(|_| numbers.number().to_le_bytes()).collect();
        file.write_all_at(&other, place * step + numbers.between(0, step - bytes))?;
    }
    Ok(places * (bytes / 8 * 8))
}

/// Lines of text as they lie on this machine, to make texts of.
pub fn lines_of_this_machine() -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let listing = Command::new("find").args(["/usr/share", "/usr/lib", "-type", "f", "-size", "-200k"]).output()?;
    let mut paths: Vec<_> = String::from_utf8_lossy(&listing.stdout).lines().map(PathBuf::from).collect();
    paths.sort();
    for path in paths.into_iter().step_by(5) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        lines.extend(text.lines().filter(|line| (20..200).contains(&line.len())).map(str::to_owned).step_by(3));
        if lines.len() > 400_000 {
            break;
        }
    }
    Ok(lines)
}

/// `count` texts of 1 to 8 KiB below `root`, 200 in a directory, each of lines that lie on this machine.
pub fn small_texts(root: &Path, count: u64, lines: &[String]) -> io::Result<()> {
    let mut numbers = Seeded::new(11);
    for at in 0..count {
        let directory = root.join(format!("t{:04}", at / 200));
        if at % 200 == 0 {
            fs::create_dir_all(&directory)?;
        }
        fs::write(text_path(root, at), text(&mut numbers, lines))?;
    }
    Ok(())
}

/// Changes one line in every `one_in`th text, spread evenly.
pub fn change_texts(root: &Path, count: u64, one_in: u64, lines: &[String]) -> io::Result<()> {
    let mut numbers = Seeded::new(13);
    for at in (0..count).step_by(usize::try_from(one_in).unwrap_or(usize::MAX)) {
        let path = text_path(root, at);
        let mut text = fs::read_to_string(&path)?;
        text.push_str(&lines[numbers.between(0, lines.len() as u64) as usize]);
        text.push('\n');
        fs::write(&path, text)?;
    }
    Ok(())
}

fn text_path(root: &Path, at: u64) -> PathBuf {
    root.join(format!("t{:04}", at / 200)).join(format!("text-{at:06}.md"))
}

fn text(numbers: &mut Seeded, lines: &[String]) -> String {
    let length = numbers.between(1 << 10, 8 << 10) as usize;
    let mut text = String::with_capacity(length + 200);
    while text.len() < length {
        // Runs of neighbouring lines, so that a text is as repetitive as texts are.
        let start = numbers.between(0, lines.len() as u64 - 8) as usize;
        for line in &lines[start..start + numbers.between(2, 8) as usize] {
            text.push_str(line);
            text.push('\n');
        }
    }
    let end = (0..=length).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text
}

/// A server root made of `base`: hard links to its files, some packages taken away, some files added, logs written and
/// settings changed.
pub fn server_root(base: &Path, root: &Path, server: u64) -> io::Result<()> {
    let copied = Command::new("cp").arg("-al").arg(base).arg(root).status()?;
    if !copied.success() {
        return Err(io::Error::other("cp -al failed"));
    }
    let mut numbers = Seeded::new(1000 + server);
    let packages = root.join("usr/share");
    let mut names: Vec<_> = fs::read_dir(&packages)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    names.sort();
    for package in names.iter().filter(|path| path.is_dir()) {
        if numbers.between(0, 100) < 6 {
            fs::remove_dir_all(package)?;
        }
    }
    let added = root.join(format!("usr/share/added-{server}"));
    many_files(&added, 400, 50)?;
    symlink("../share", root.join("usr").join(format!("link-{server}")))?;
    fs::create_dir_all(root.join("var/log"))?;
    for log in 0..20 {
        let mut file = fs::File::create(root.join(format!("var/log/service-{log}.log")))?;
        for line in 0..2000 {
            writeln!(
                file,
                "2026-11-{:02} host-{server} service[{log}]: event {line} {:x}",
                line % 28,
                numbers.number()
            )?;
        }
    }
    change_settings(&root.join("etc"), server, &mut numbers)
}

fn change_settings(etc: &Path, server: u64, numbers: &mut Seeded) -> io::Result<()> {
    let mut files: Vec<_> = fs::read_dir(etc)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.sort();
    for path in files.iter().filter(|path| path.is_file() && !path.is_symlink()) {
        if numbers.between(0, 100) < 15
            && let Ok(text) = fs::read_to_string(path)
        {
            // Written anew, so that the base, which has a link to the file, stays as it is.
            fs::remove_file(path)?;
            fs::write(path, format!("{text}\n# host {server}\n"))?;
        }
    }
    Ok(())
}
