//! A source that changes by chance: files small and large come, change, move and go, and get further names.
//!
//! What is written gets a time of the lab's clock, each time another one: to the agent it looks as if the system kept
//! that clock too. So the clock may jump by years, and an agent that goes by time has nothing to overlook (INV-18).

use crate::dice::Dice;
use lifeboat_coordinator::clock::{Clock, ManualClock};
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use walkdir::WalkDir;

/// Some four chunks.
const LARGE_BYTES: usize = 500_000;
const A_WHILE: Duration = Duration::from_secs(120);

pub struct Source {
    path: PathBuf,
    dice: Dice,
    clock: Arc<ManualClock>,
    written: u64,
}

impl Source {
    /// An empty directory, to be changed by these dice.
    pub fn new(path: &Path, seed: u64, clock: Arc<ManualClock>) -> Self {
        fs::create_dir_all(path).unwrap();
        Self { path: path.to_owned(), dice: Dice::new(seed), clock, written: 0 }
    }

    /// So many small files, and a large one. Then two minutes go by: what changed within 73 seconds is not recognised as unchanged.
    pub fn fill(&mut self, files: usize) {
        self.write("large", &self.dice.noise(LARGE_BYTES));
        (0..files).for_each(|_| self.add());
        self.clock.advance(A_WHILE);
    }

    /// Writes a file, in place if it is there.
    pub fn write(&mut self, name: &str, content: &[u8]) {
        self.write_at(&self.path.join(name), content);
    }

    /// So many changes, and two minutes.
    pub fn change(&mut self, changes: usize) {
        for _ in 0..changes {
            match self.dice.below(20) {
                0..=4 => self.add(),
                5..=9 => self.edit(),
                10 => self.insert_into_large(),
                11..=12 => self.rename(),
                13 => self.rename_directory(),
                14..=15 => self.delete(),
                16 => self.link(),
                17 => self.symlink(),
                _ => self.change_mode(),
            }
        }
        self.clock.advance(A_WHILE);
    }

    fn add(&mut self) {
        let bytes = match self.dice.below(12) {
            0 => 0,
            1 => 20_000 + self.dice.below(60_000),
            _ => 1 + self.dice.below(4000),
        };
        let content = self.dice.noise(bytes);
        self.write_at(&self.new_path(), &content);
    }

    fn edit(&mut self) {
        let Some(path) = self.file() else { return };
        let bytes = fs::metadata(&path).unwrap().len() as usize;
        // As often as not of the same length: then only times tell.
        let bytes = if self.dice.below(2) == 0 { bytes } else { self.dice.below(6000) };
        let content = self.dice.noise(bytes);
        self.write_at(&path, &content);
    }

    fn insert_into_large(&mut self) {
        let mut content = fs::read(self.path.join("large")).unwrap_or_default();
        let place = self.dice.below(content.len() + 1);
        content.splice(place..place, self.dice.noise(1000));
        self.write("large", &content);
    }

    fn rename(&self) {
        if let Some(path) = self.file() {
            fs::rename(path, self.new_path()).unwrap();
        }
    }

    fn rename_directory(&self) {
        let from = self.path.join(format!("d{}", self.dice.below(4)));
        let to = self.path.join(format!("moved-{}", self.dice.below(1000)));
        if from.exists() && !to.exists() {
            fs::rename(from, to).unwrap();
        }
    }

    fn delete(&self) {
        if let Some(path) = self.file() {
            fs::remove_file(path).unwrap();
        }
    }

    fn link(&self) {
        if let Some(path) = self.file() {
            fs::hard_link(path, self.new_path()).unwrap();
        }
    }

    fn symlink(&self) {
        symlink(format!("to-{}", self.dice.below(1000)), self.new_path()).unwrap();
    }

    fn change_mode(&self) {
        if let Some(path) = self.file() {
            let mode = *self.dice.one_of(&[0o600, 0o640, 0o644, 0o755, 0o4755]);
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
    }

    /// A path that is free, in the top or in one of four directories.
    fn new_path(&self) -> PathBuf {
        loop {
            let name = format!("f{:05}", self.dice.below(100_000));
            let path = match self.dice.below(5) {
                4 => self.path.join(name),
                directory => self.path.join(format!("d{directory}")).join(name),
            };
            if fs::symlink_metadata(&path).is_err() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                return path;
            }
        }
    }

    /// One of the regular files.
    fn file(&self) -> Option<PathBuf> {
        let all = WalkDir::new(&self.path).sort_by_file_name().into_iter().map(Result::unwrap);
        let files: Vec<_> = all.filter(|entry| entry.file_type().is_file()).collect();
        (!files.is_empty()).then(|| self.dice.one_of(&files).path().to_owned())
    }

    fn write_at(&mut self, path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
        self.written += 1;
        let since = Duration::from_nanos(u64::try_from(self.clock.now_ns()).unwrap() + self.written);
        File::open(path).unwrap().set_times(FileTimes::new().set_modified(UNIX_EPOCH + since)).unwrap();
    }
}
