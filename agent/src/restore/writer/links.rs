//! Further names of files.

use super::super::decide::Overwrite;
use super::super::report::Attribute;
use super::super::shared::Place;
use super::super::target::open_beneath;
use super::{Step, Writer};
use crate::walk::{Stat, stat_at};
use lifeboat_format::tree::{name, parent};
use rustix::fs::OFlags;
use rustix::io::Errno;

impl Writer {
    pub(super) fn link(&mut self, to: &[u8], place: Place, there: Option<Stat>) -> Result<Step, String> {
        if let Some(there) = there {
            if there.is_directory() {
                self.make_room(&place)?;
            } else if self.stays(to, &there) {
                self.shared.report().kept += 1;
                return Ok(Step::Settled);
            }
        }
        if self.is_kept(to) {
            self.last = None; // It is added again.
            return Ok(Step::FirstIsAbsent);
        }
        let over = there.is_some_and(|there| !there.is_directory());
        let Some(place) = self.shared.link_later(to, place, over) else { return Ok(Step::Settled) };
        let above = parent(to).unwrap_or_default();
        let known = self.link_source.take_if(|(path, _)| path == above);
        let source = match known {
            Some((_, source)) => Ok(source),
            None => self.shared.target.open_directory(above),
        };
        let found = source.and_then(|source| {
            open_beneath(&source, name(to), OFlags::PATH)?;
            Ok(source)
        });
        match found {
            Ok(source) => {
                self.shared.link(&source, name(to), &place, over);
                self.link_source = Some((above.to_vec(), source));
                Ok(Step::Settled)
            }
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS)) => {
                if error == Errno::ACCESS {
                    self.shared.report().lose(&place.path, Attribute::HardLink, error);
                }
                self.last = None; // It is added again.
                Ok(Step::FirstIsAbsent)
            }
            Err(error) => Err(format!("cannot find the file that it is a name of: {error}")),
        }
    }

    /// Whether what is at the place of a further name stays as it is.
    pub(super) fn stays(&self, to: &[u8], there: &Stat) -> bool {
        match self.options.rules.overwrite {
            Overwrite::Always | Overwrite::IfChanged => false,
            Overwrite::Never => true,
            Overwrite::IfNewer => {
                let landed = || {
                    let above = self.shared.target.open_directory(parent(to).unwrap_or_default()).ok()?;
                    stat_at(&above, name(to)).ok().map(|first| first.mtime)
                };
                self.shared.time_in_flight(to).or_else(landed).is_none_or(|first| first <= there.mtime)
            }
        }
    }
}
