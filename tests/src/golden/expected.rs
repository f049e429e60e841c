//! What a reader must find, from the files as described, not from what was written.

use super::files::{File, Kind, Piece};
use super::json::{self, ContentJson};
use serde_json::Value;

/// One entry.
pub fn entry(file: &File) -> Value {
    let kind = match &file.kind {
        Kind::HardLink(to) => return json::hard_link(&file.path, to),
        Kind::Content(pieces) => content(pieces),
        Kind::Directory(completeness) => json::directory(*completeness),
        Kind::Symlink(target) => json::symlink(target),
        Kind::Fifo => json::of_kind("pipe"),
        Kind::Socket => json::of_kind("socket"),
        Kind::CharDevice(device) => json::device("character-device", device),
        Kind::BlockDevice(device) => json::device("block-device", device),
    };
    json::entry(&file.path, &file.attributes, kind)
}

fn content(pieces: &[Piece]) -> Value {
    let mut content = ContentJson::default();
    for piece in pieces {
        match piece {
            Piece::Data(data) => content.data(data),
            Piece::Hole(bytes) => content.hole(*bytes),
        }
    }
    content.finish()
}
