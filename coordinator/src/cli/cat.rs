//! `lifeboat cat`: the content of one file, to standard output.

use super::output::Output;
use super::reading::{AddressArgs, LOOK, Opened, blocking};
use super::{Done, Global, elsewhere, symlink};
use crate::address::shown;
use clap::Args;
use lifeboat_agent::restore::content::{self, Piece};
use lifeboat_agent::restore::fetch::FetchError;
use lifeboat_format::tree::{Entry, EntryKind, FileContent};
use lifeboat_proto::status::{ErrorClass, Failure};

/// Holes and zeros are written from here.
const ZEROS: &[u8] = &[0; 64 << 10];

/// Print the content of a file in a snapshot
#[derive(Debug, Args)]
#[command(after_help = "Example: lifeboat cat web1:/etc/fstab@2026-11-01")]
pub struct CatArgs {
    #[command(flatten)]
    address: AddressArgs,
}

/// An error of reading, or of writing.
struct CatError(Failure);

impl From<FetchError> for CatError {
    fn from(error: FetchError) -> Self {
        Self(error.into())
    }
}

/// Runs the command.
pub async fn cat(args: CatArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let opened = args.address.open("cat", LOOK, global).await?;
    if args.address.is_local()? {
        opened.say_which("", out);
    }
    let (snapshot, path) = (opened.snapshot.clone(), opened.path.clone());
    let mut to = Output::new(out.is_json());
    let written = blocking(move || {
        let content = file_content(&opened, opened.entry()?)?;
        let written = content::read(
            &opened.reader,
            &content,
            |_, _| Ok(true),
            |_, piece| match piece {
                Piece::Data(bytes) => to.bytes(bytes).map_err(CatError),
                Piece::Zeros(bytes) | Piece::Hole(bytes) => zeros(bytes, &mut to).map_err(CatError),
            },
        );
        written.map_err(|CatError(failure)| failure)
    })
    .await;
    if written.as_ref().is_err_and(|failure| failure.class == ErrorClass::Damaged) {
        elsewhere::say_whole(&args.address, &snapshot, &[path], global, out).await;
    }
    written.map(|()| Done::Whole)
}

/// What is in the file, or in the file that this is a further name of.
fn file_content(opened: &Opened, entry: Entry) -> Result<FileContent, Failure> {
    let path = shown(&entry.path);
    match opened.file_of(entry)?.kind {
        EntryKind::File(content) => Ok(content),
        EntryKind::Symlink { target } => {
            let what = format!("/{path} is a symbolic link to {}", shown(&target));
            let mut tree = opened.tree();
            let through = symlink::follow(&opened.path, |path| tree.lookup(path))?;
            let hint = through.map(|through| through.hint(&opened.snapshot.host_name)).unwrap_or_default();
            Err(Failure::new(ErrorClass::Usage, what).hint(hint))
        }
        _ => Err(Failure::new(ErrorClass::Usage, format!("/{path} is not a regular file"))),
    }
}

fn zeros(bytes: u64, out: &mut Output) -> Result<(), Failure> {
    let mut left = bytes;
    while left > 0 {
        let step = left.min(ZEROS.len() as u64);
        out.bytes(&ZEROS[..step as usize])?;
        left -= step;
    }
    Ok(())
}
