//! Mirrors: what is deleted, and what is kept because the snapshot is not known to lack it.

use crate::world::{World, said, summary_of};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;

/// A mirror of a path of the newest snapshot, here or by the agent.
fn mirror(world: &World, by_agent: bool, path: &Path, target: &Path, more: &[&str]) -> Output {
    let address = format!("server:{}", path.display());
    let to = target.to_str().unwrap();
    let place = if by_agent { vec!["--on", "server", "--into", to, "--wait"] } else { vec!["--to", to] };
    let arguments = [&["restore", &address, "--overwrite", "always", "--delete"], &place[..], more].concat();
    world.lab.try_lifeboat(&arguments).unwrap()
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A world whose agent restores anywhere in it.
fn world() -> World {
    let world = World::new();
    world.set_law(&format!("restore = [{:?}]", world.directory.path()));
    world
}

/// What was kept, as the dry run and the restore tell alike; and the exit code of the restore.
fn kept(world: &World, by_agent: bool, path: &Path, target: &Path) -> (Value, u64, Option<i32>) {
    let plan = summary_of(&mirror(world, by_agent, path, target, &["--dry-run", "--json"]));
    let output = mirror(world, by_agent, path, target, &["--yes", "--json"]);
    let done = summary_of(&output);
    assert_eq!(plan["kept_back"], done["kept_back"], "{}", said(&output));
    assert_eq!(plan["deleted"], done["deleted"], "{}", said(&output));
    (done["kept_back"].clone(), done["deleted"].as_u64().unwrap(), output.status.code())
}

#[test]
fn inv_70_what_lies_beside_the_source_paths_is_not_deleted() {
    for by_agent in [false, true] {
        let world = world();
        for name in ["var/mail/anna", "srv/mail/bert"] {
            world.write(name, b"mail");
        }
        let [var, srv] = ["var/mail", "srv/mail"].map(|name| world.source().join(name));
        world.lab.set_sources(&format!("data = [{var:?}, {srv:?}]")).unwrap();
        world.backed_up();
        let target = world.path("target");
        for name in ["etc/passwd", "var/lib/data", "srv/www/index", "var/mail/extra", "srv/mail/deep/extra"] {
            write(&target.join(name), "of somebody");
        }
        let (kept, deleted, code) = kept(&world, by_agent, &world.source(), &target);
        assert_eq!((deleted, code), (3, Some(0)), "{kept}");
        assert_eq!((&kept["entries"], &kept["directories"]), (&3.into(), &3.into()), "{kept}");
        for name in ["etc/passwd", "var/lib/data", "srv/www/index"] {
            assert_eq!(fs::read(target.join(name)).unwrap(), b"of somebody", "{name}");
        }
        assert!(!target.join("var/mail/extra").exists() && !target.join("srv/mail/deep").exists());
        assert_eq!(fs::read(target.join("srv/mail/bert")).unwrap(), b"mail");
        let asked = mirror(&world, by_agent, &world.source(), &target, &[]);
        assert!(asked.status.success(), "nothing is left to be deleted: {}", said(&asked));
        assert!(
            said(&asked).contains("kept 3 existing files in 3 directories that the backup does not hold completely")
        );
    }
}

#[test]
fn inv_70_a_gap_and_all_below_it_is_not_deleted_and_the_exit_code_says_so() {
    for by_agent in [false, true] {
        let world = world();
        world.write("there/file", b"content");
        let [there, missing] = ["there", "missing"].map(|name| world.source().join(name));
        world.lab.set_sources(&format!("data = [{there:?}, {missing:?}]")).unwrap();
        assert_eq!(world.backup().status.code(), Some(3));
        let target = world.path("target");
        for name in ["missing/deep/file", "there/extra/file"] {
            write(&target.join(name), "of somebody");
        }
        let (kept, deleted, code) = kept(&world, by_agent, &world.source(), &target);
        assert_eq!((deleted, code, &kept["loss"]), (2, Some(3), &true.into()), "{kept}");
        assert_eq!(fs::read(target.join("missing/deep/file")).unwrap(), b"of somebody");
        assert!(!target.join("there/extra").exists());
    }
}

/// As root, because only root mounts.
mod as_root {
    use super::*;
    use crate::disks::as_root::Disk;

    #[test]
    fn inv_70_what_is_mounted_in_the_target_is_not_deleted() {
        for by_agent in [false, true] {
            let world = world();
            for name in ["empty", "full"] {
                fs::create_dir_all(world.source().join(name)).unwrap();
            }
            world.write("full/file", b"content");
            world.backed_up();
            let target = world.path("target");
            write(&target.join("extra"), "of somebody");
            for name in ["empty", "full"] {
                fs::create_dir_all(target.join(name)).unwrap();
            }
            let _disks = ["empty", "full"].map(|name| Disk::at(&target.join(name), 1));
            fs::remove_dir(target.join("empty.before")).unwrap();
            fs::remove_dir(target.join("full.before")).unwrap();
            for name in ["empty/photos/1", "full/extra"] {
                write(&target.join(name), "of somebody");
            }
            let (kept, deleted, code) = kept(&world, by_agent, &world.source(), &target);
            assert_eq!((deleted, code), (1, Some(0)), "{kept}");
            assert_eq!((&kept["entries"], &kept["directories"]), (&2.into(), &2.into()), "{kept}");
            assert!(kept["named"].to_string().contains("another file system is mounted there"), "{kept}");
            for name in ["empty/photos/1", "full/extra"] {
                assert_eq!(fs::read(target.join(name)).unwrap(), b"of somebody", "{name}");
            }
            assert_eq!(fs::read(target.join("full/file")).unwrap(), b"content");
        }
    }
}
