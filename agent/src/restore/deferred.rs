//! Flags that forbid all further change, kept back until the restore is over: a file that is immutable gets no
//! second name.

use crate::walk::Spool;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Paths and flags, in a file without a name.
#[derive(Debug)]
pub struct DeferredFlags {
    spool: Mutex<Option<Spool>>,
}

impl DeferredFlags {
    /// Nothing kept back yet; the file is made when it is needed.
    pub fn new() -> Self {
        Self { spool: Mutex::new(None) }
    }

    /// Keeps back the flags of a file.
    pub fn push(&self, path: &[u8], flags: u32) -> io::Result<()> {
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let spool = match &mut *spool {
            Some(spool) => spool,
            none => none.insert(Spool::new(&std::env::temp_dir())?),
        };
        let mut record = flags.to_le_bytes().to_vec();
        record.extend_from_slice(&(path.len() as u32).to_le_bytes());
        record.extend_from_slice(path);
        spool.append(&record).map(drop)
    }

    /// Hands out what was kept back, in the order in which it came.
    pub fn for_each(&self, mut each: impl FnMut(&[u8], u32)) -> io::Result<()> {
        let spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spool) = &*spool else { return Ok(()) };
        let mut at = 0;
        while at < spool.end() {
            let (mut flags, mut length) = ([0; 4], [0; 4]);
            spool.read(at, &mut flags)?;
            spool.read(at + 4, &mut length)?;
            let mut path = vec![0; u32::from_le_bytes(length) as usize];
            spool.read(at + 8, &mut path)?;
            at += 8 + path.len() as u64;
            each(&path, u32::from_le_bytes(flags));
        }
        Ok(())
    }
}
