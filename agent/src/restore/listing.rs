//! The names in a directory that was there before the restore, met one after the other by the entries of the tree.
//!
//! Both are sorted by bytes. A name that no entry meets is a stray; what becomes of it is for `writer`.

use crate::walk::{NameBudget, NameReader, Names, Spool};
use std::cmp::Ordering;
use std::io;
use std::os::fd::AsFd;

/// Reads directories in a fixed budget of memory; what does not fit goes to a file without a name.
#[derive(Debug)]
pub struct Listings {
    reader: NameReader,
    spool: Spool,
}

/// What is left of one directory's names. To be left in the reverse order of reading.
#[derive(Debug)]
pub struct Listing {
    names: Names,
    /// The next name, if there is one.
    next: Option<Vec<u8>>,
    /// The name that was met last.
    met: Option<Vec<u8>>,
}

/// What was met on the way to a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Met {
    /// A name before it, that no entry has.
    Stray(Vec<u8>),
    /// The name itself.
    There,
    /// Nothing: it is not there.
    Absent,
}

impl Listings {
    /// None read yet.
    pub fn new() -> io::Result<Self> {
        let spool = Spool::new(&std::env::temp_dir())?;
        Ok(Self { reader: NameReader::new(NameBudget::default()), spool })
    }

    /// The names in a directory that was just opened for reading.
    pub fn read(&mut self, directory: impl AsFd) -> io::Result<Listing> {
        let names = self.reader.read(directory, &mut self.spool)?;
        let mut listing = Listing { names, next: Some(Vec::new()), met: None };
        self.step(&mut listing)?;
        Ok(listing)
    }

    /// Goes on to `name`, or to the first stray before it: then it is to be called again. A name that was met may be
    /// asked for once more.
    pub fn meet(&mut self, listing: &mut Listing, name: &[u8]) -> io::Result<Met> {
        if listing.met.as_deref() == Some(name) {
            return Ok(Met::There);
        }
        let order = listing.next.as_deref().map(|next| next.cmp(name));
        match order {
            Some(Ordering::Less) => Ok(self.step(listing)?.map_or(Met::Absent, Met::Stray)),
            Some(Ordering::Equal) => {
                listing.met = self.step(listing)?;
                Ok(Met::There)
            }
            Some(Ordering::Greater) | None => Ok(Met::Absent),
        }
    }

    /// The next stray, once no more entries will come.
    pub fn next_stray(&mut self, listing: &mut Listing) -> io::Result<Option<Vec<u8>>> {
        if listing.next.is_none() { Ok(None) } else { self.step(listing) }
    }

    /// Gives back what the names took; before the directory below which it is read.
    pub fn leave(&mut self, listing: &Listing) {
        self.reader.leave(&listing.names, &mut self.spool);
    }

    /// Goes on by one name, and returns the one that was next.
    fn step(&mut self, listing: &mut Listing) -> io::Result<Option<Vec<u8>>> {
        let mut name = Vec::new();
        let found = listing.names.next(&self.spool, &mut name)?;
        Ok(std::mem::replace(&mut listing.next, found.then_some(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_entry_meets_are_strays() {
        let place = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "e", "g"] {
            std::fs::write(place.path().join(name), "").unwrap();
        }
        let mut listings = Listings::new().unwrap();
        let mut listing = listings.read(std::fs::File::open(place.path()).unwrap()).unwrap();
        let stray = |name: &[u8]| Met::Stray(name.to_vec());
        for (name, met) in [
            (&b"b"[..], stray(b"a")),
            (b"b", Met::There),
            (b"b", Met::There),
            (b"d", stray(b"c")),
            (b"d", Met::Absent),
            (b"e", Met::There),
        ] {
            assert_eq!(listings.meet(&mut listing, name).unwrap(), met);
        }
        assert_eq!(listings.next_stray(&mut listing).unwrap(), Some(b"g".to_vec()));
        assert_eq!(listings.next_stray(&mut listing).unwrap(), None);
        listings.leave(&listing);
    }
}
