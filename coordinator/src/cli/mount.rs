//! `lifeboat mount HOST[@WHEN] DIR`: snapshots as directories, read-only, through FUSE.
//!
//! Only what is looked at is fetched. The command runs until it is unmounted or interrupted.

mod cache;
mod file_system;
mod number;
mod snapshot;
mod top;
mod unmount;

use super::output::{Output, zone_name};
use super::reading::AddressArgs;
use super::{Done, Global};
use crate::address::When;
use clap::Args;
use file_system::Mount;
use fuser::Session;
use lifeboat_proto::status::{ErrorClass, Failure};
use snapshot::Source;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use top::Top;
use unmount::{Next, Step};

/// Mount snapshots as directories
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lifeboat mount web1 /mnt/web1             one directory for each snapshot, and `latest`\n  lifeboat mount web1@yesterday /mnt/web1   one snapshot"
)]
pub struct MountArgs {
    #[command(flatten)]
    address: AddressArgs,
    /// Empty directory to mount on. Without @WHEN it holds a directory for each snapshot
    directory: PathBuf,
    /// Let other users read it too, as far as the modes of the files allow
    #[arg(long)]
    allow_other: bool,
}

/// Runs the command.
pub async fn mount(args: MountArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let address = args.address.address()?;
    if !address.path.is_empty() {
        let failure = Failure::new(ErrorClass::Usage, "a mount shows whole snapshots, not a path in them");
        return Err(failure.hint(format!("lifeboat mount {} {}", address.host, args.directory.display())));
    }
    check_directory(&args.directory)?;
    let mut snapshots = args.address.snapshots(global).await?;
    let newest = snapshots.choose(&address.host, &address.when);
    let is_one = address.when != When::Latest || args.address.names_moment();
    let list = snapshots.list.clone();
    let one = if is_one { Some(newest?.clone()) } else { None };
    let source_set = args.address.source_set().to_owned();
    // A directory of all snapshots lists the oldest first.
    snapshots.expect_some(if is_one { Vec::new() } else { list.iter().rev().cloned().collect() });
    let source = Arc::new(Source::new(snapshots, Handle::current()));
    let top = match one {
        Some(info) => Top::one(info, source),
        None if list.is_empty() => {
            return Err(Failure::new(ErrorClass::NotFound, format!("{} has no snapshot", address.host)));
        }
        None => Top::all(address.host.clone(), source_set, list, source),
    };
    let config = file_system::config(&format!("lifeboat:{}", address.host), args.allow_other);
    let shown = args.directory.display();
    // Read before the mount: afterwards it would ask the mount itself.
    let mount_point = args.directory.canonicalize().map_err(|error| cannot(&args.directory, &error))?;
    let session =
        Session::new(Mount::new(top), &args.directory, &config).map_err(|error| cannot(&args.directory, &error))?;
    out.say(format_args!("{} is mounted at {shown}; times are in {}", address.host, zone_name()));
    out.say(format_args!("umount {shown}, or Ctrl-C here, ends it"));
    serve(session, &args.directory, &mount_point, out).await
}

/// Serves until it is unmounted: by `umount`, or here by a signal.
async fn serve(session: Session<Mount>, directory: &Path, mount_point: &Path, out: &Output) -> Result<Done, Failure> {
    let cannot = |error: io::Error| cannot(directory, &error);
    let mut ended = tokio::task::spawn_blocking(move || session.run());
    let listen = |kind| signal(kind).map_err(cannot);
    let mut interrupt = listen(SignalKind::interrupt())?;
    let (mut terminate, mut hang_up) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let mut step = Step::default();
    let unmount = |how| unmount::unmount(mount_point, how);
    loop {
        let next = tokio::select! {
            ended = &mut ended => {
                let ended = ended.map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
                return ended.map(|()| Done::Whole).map_err(cannot);
            }
            _ = interrupt.recv() => step.signal(unmount),
            _ = terminate.recv() => step.end(unmount),
            _ = hang_up.recv() => step.end(unmount),
        };
        match next {
            Next::Wait => {}
            // The terminal may be gone: nothing is lost with the line then.
            Next::Report(text) => out.say(format_args!("{}: {text}", directory.display())),
            Next::Exit => std::process::exit(super::INTERRUPTED),
        }
    }
}

fn check_directory(directory: &Path) -> Result<(), Failure> {
    let entries = std::fs::read_dir(directory).map_err(|error| cannot(directory, &error))?;
    if entries.count() > 0 {
        let failure = Failure::new(ErrorClass::Usage, format!("{} is not empty", directory.display()));
        return Err(failure.hint("name an empty directory"));
    }
    Ok(())
}

fn cannot(directory: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(ErrorClass::Usage, format!("cannot mount at {}: {error}", directory.display()));
    match error.kind() {
        io::ErrorKind::NotFound if directory.exists() => failure.hint("the kernel has no FUSE: modprobe fuse"),
        io::ErrorKind::NotFound => failure.hint("name an empty directory"),
        io::ErrorKind::PermissionDenied => failure.hint("only root may, or install fusermount3 (package fuse3)"),
        _ => failure,
    }
}
