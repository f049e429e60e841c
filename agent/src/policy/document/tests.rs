//! What a policy may say, and on which line it is wrong.

use super::*;
use crate::policy::DEFAULT_POLICY;

fn problem(text: &str) -> (usize, String) {
    match text.parse::<Policy>() {
        Err(PolicyError::Text { line, problem }) => (line, problem),
        other => panic!("{other:?} for {text}"),
    }
}

#[test]
fn the_example_of_the_design_is_understood() {
    let policy: Policy = r#"
        sources  = { system = ["/etc", "/srv"], mail = ["/var/mail"] }
        never    = ["/etc/shadow-vault", "*.key"]
        restore  = "staging"
        trust    = { file = "/etc/lifeboat/trust", operators = 1 }
        hooks    = { dump-mail = ["/usr/local/sbin/dump-mail"] }
        limits   = { upload = "50 MB/s", processors = 2, memory = "256 MiB" }
    "#
    .parse()
    .unwrap();
    let system = &policy.sources[&"system".parse().unwrap()];
    assert_eq!(system.paths, [PathBuf::from("/etc"), PathBuf::from("/srv")]);
    assert_eq!(policy.limits.upload, Some(ByteRate(50_000_000)));
    assert_eq!(policy.hooks["dump-mail"], ["/usr/local/sbin/dump-mail"]);
    assert_eq!(policy.restore, RestoreMode::Into { staging: true, paths: Vec::new() });
}

#[test]
fn a_set_may_be_a_table_with_options() {
    let policy: Policy = r#"
        restore = ["/srv"]
        [sources.db]
        paths = ["/var/lib/db"]
        exclude = ["*.tmp"]
        one-file-system = true
        hooks = { before = ["freeze"], after = ["thaw"] }
        commands = { "all.sql" = ["/usr/bin/dump", "--all"] }
        [hooks]
        freeze = ["/sbin/freeze"]
        thaw = ["/sbin/thaw", "-v"]
    "#
    .parse()
    .unwrap();
    let set = &policy.sources[&"db".parse().unwrap()];
    assert!(set.one_file_system && !set.skip_network);
    assert_eq!(set.commands["all.sql"], ["/usr/bin/dump", "--all"]);
    assert_eq!(
        (set.before.as_slice(), set.after.as_slice()),
        (["freeze".to_owned()].as_slice(), ["thaw".to_owned()].as_slice())
    );
    assert_eq!(policy.restore, RestoreMode::Into { staging: false, paths: vec!["/srv".into()] });
}

#[test]
fn an_unknown_key_is_an_error_with_its_line() {
    let (line, text) = problem("[sources]\nmail = [\"/var/mail\"]\n\n[limits]\nuplaod = \"1 MB/s\"\n");
    assert_eq!(line, 5);
    assert!(text.contains("uplaod") && text.contains("upload"), "{text}");
    let (line, text) = problem("[sources.mail]\npaths = [\"/var/mail\"]\nexlude = []\n");
    assert_eq!(line, 3);
    assert!(text.contains("exlude"), "{text}");
    assert_eq!(problem("sources = {}\nnevr = []").0, 2);
}

#[test]
fn what_could_mean_anything_is_an_error_with_its_line() {
    for (line, text) in [
        (2, "[sources]\na = [\"etc\"]"),
        (2, "[sources]\na = [\"/etc/../root\"]"),
        (2, "[sources]\n\"A B\" = [\"/etc\"]"),
        (2, "[sources]\na = []"),
        (2, "sources = {}\nrestore = \"anywhere\""),
        (3, "sources = {}\n[limits]\nmemory = \"63 MiB\""),
        (3, "sources = {}\n[hooks]\nx = [\"rm\", \"-rf\"]"),
        (3, "sources = {}\n[hooks]\nx = []"),
        (3, "[sources.a]\npaths = [\"/a\"]\nhooks = { before = [\"y\"] }"),
        (3, "[sources.a]\npaths = [\"/a\"]\ncommands = { \"../x\" = [\"/bin/x\"] }"),
        (2, "sources = {}\nlimits = { processors = 0 }"),
        (1, "sources = {"),
        (2, "sources = {}\nnever = [\"!/etc\"]"),
        (2, "sources = {}\nnever = [\"*.[key\"]"),
        (1, "[sources.a]\npaths = [\"/a\"]\nexclude = [\"[[:digits:]]\"]"),
    ] {
        assert_eq!(problem(text).0, line, "{text}: {}", problem(text).1);
    }
}

#[test]
fn the_policy_of_enrolment_backs_up_the_system() {
    let policy: Policy = DEFAULT_POLICY.parse().unwrap();
    let system = &policy.sources[&"system".parse().unwrap()];
    assert_eq!(system.paths, [PathBuf::from("/")]);
    assert!(system.skip_network && system.skip_temporary && system.skip_cache_dirs && !system.one_file_system);
}
