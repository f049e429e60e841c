//! Patterns against a table, and against git itself.

use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn matches(patterns: &[&str], path: &str) -> bool {
    let (path, is_directory) = match path.strip_suffix('/') {
        Some(path) => (path, true),
        None => (path, false),
    };
    Patterns::new(patterns).unwrap().matches_within(path.as_bytes(), is_directory)
}

#[test]
fn patterns_mean_what_they_mean_in_a_gitignore() {
    for (patterns, path, expected) in [
        (&["{5E6F-11}"][..], "a/{5E6F-11}", true),
        (&["{5E6F-11}"], "a/5E6F-11", false),
        (&["logs{1,2}"], "logs1", false),
        (&["logs[[:digit:]]"], "logs1", true),
        (&["logs[[:digit:]]"], "logsd", false),
        (&["[^a]b"], "cb", true),
        (&["[!a]b"], "ab", false),
        (&["[]-]x"], "]x", true),
        (&["a "], "a", true),
        (&["a "], "a ", false),
        (&["a\\ "], "a ", true),
        (&["\\#a"], "#a", true),
        (&["#a"], "#a", false),
        (&["\\!a"], "!a", true),
        (&["*.log", "!keep.log"], "var/keep.log", false),
        (&["var/", "!var/keep"], "var/keep", true),
        (&["build/"], "home/build/", true),
        (&["build/"], "home/build", false),
        (&["/build"], "home/build", false),
        (&["a/b"], "a/b", true),
        (&["a/b"], "x/a/b", false),
        (&["a/*/c"], "a/b/c", true),
        (&["a/*/c"], "a/b/b/c", false),
        (&["a/**/c"], "a/c", true),
        (&["a/**/c"], "a/b/b/c", true),
        (&["**/c"], "a/b/c", true),
        (&["a/**"], "a/b/c", true),
        (&["a/**"], "a/", false),
        (&["a**b/c"], "axb/c", true),
        (&["?"], "/", false),
        (&["", "# x", "   "], "x", false),
    ] {
        assert_eq!(matches(patterns, path), expected, "{patterns:?} and {path:?}");
    }
}

#[test]
fn a_pattern_that_can_never_match_is_named() {
    for (pattern, error) in [
        ("a[", GlobError::Unclosed),
        ("[]", GlobError::Unclosed),
        ("[[:digit:]", GlobError::Unclosed),
        ("[[:digits:]]", GlobError::UnknownClass),
        ("[z-a]", GlobError::Backwards),
        ("a\\", GlobError::Backslash),
        ("!", GlobError::Empty),
        ("/", GlobError::Empty),
        ("a\0b", GlobError::Nul),
    ] {
        let found = Patterns::new(["good", pattern]).unwrap_err();
        assert_eq!(found, PatternError { pattern: pattern.to_owned(), source: error });
    }
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..=self.roll(most)).map(|_| pieces[self.roll(pieces.len())]).collect()
    }
}

/// Directories and files with names that patterns are about, three levels deep, in a repository of git.
fn tree(root: &Path) -> Vec<(String, bool)> {
    let git = Command::new("git").args(["init", "--quiet"]).arg(root).status().unwrap();
    assert!(git.success());
    let names = ["a", "b", "ab", "a.b", "ab1", "{a,b}", "#a", "!a", "a ", "[a]", "a-b", "\\a", "B"];
    let mut paths = Vec::new();
    for top in ["a", "b", "ab", "x1", "#a", "{a,b}"] {
        for middle in ["a", "ab", "b1", "a ", "B"] {
            let directory = format!("{top}/{middle}");
            fs::create_dir_all(root.join(&directory)).unwrap();
            for name in names.iter().filter(|name| name.len() % 2 == middle.len() % 2 || top == "a") {
                fs::write(root.join(&directory).join(name), "").unwrap();
                paths.push((format!("{directory}/{name}"), false));
            }
            paths.push((directory, true));
        }
        paths.push((top.to_owned(), true));
    }
    for name in ["!a", "a1", "B", "a-b", "[a]"] {
        fs::write(root.join(name), "").unwrap();
        paths.push((name.to_owned(), false));
    }
    paths
}

/// Which of the paths git ignores.
fn ignored_by_git(root: &Path, patterns: &[String], paths: &[(String, bool)]) -> BTreeSet<String> {
    fs::write(root.join(".git/info/exclude"), patterns.iter().map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
    let mut git = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["-c", "core.ignoreCase=false", "-c", "core.excludesFile=/dev/null"])
        .args(["check-ignore", "--no-index", "-z", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = git.stdin.take().unwrap();
    let asked: Vec<u8> = paths.iter().flat_map(|(path, _)| [path.as_bytes(), b"\0"].concat()).collect();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(&asked).unwrap());
        let output = git.wait_with_output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect()
    })
}

/// Thousands of made-up lists: what git ignores, and nothing else, is matched.
#[test]
fn generated_patterns_match_what_git_check_ignore_names() {
    let root = tempfile::tempdir().unwrap();
    let paths = tree(root.path());
    let pieces = [
        "a",
        "b",
        "B",
        "1",
        "*",
        "**",
        "/",
        "?",
        "[ab]",
        "[!a]",
        "[^b]",
        "[a-c]",
        "[[:digit:]]",
        "[[:alpha:]_]",
        "{a,b}",
        "\\*",
        "\\a",
        "\\ ",
        " ",
        "#",
        "!",
        "-",
        "]",
        "**/",
        "/**",
        "[]a]",
        "[a\\]]",
        "[\\-a]",
        ".",
        "\\#",
        "\\/",
        "[[:upper:]a-b]",
    ];
    let (mut dice, mut lists, mut matched) = (Dice(7), 0, 0);
    while lists < 600 {
        let lines: Vec<_> = (0..=dice.roll(4))
            .map(|_| {
                ["", "", "", "!", "/"][dice.roll(5)].to_owned()
                    + &dice.text(&pieces, 5)
                    + ["", "", "/", " "][dice.roll(4)]
            })
            .collect();
        let Ok(patterns) = Patterns::new(&lines) else { continue };
        lists += 1;
        let ours: BTreeSet<_> = paths
            .iter()
            .filter(|(path, is_directory)| patterns.matches_within(path.as_bytes(), *is_directory))
            .map(|(path, _)| path.clone())
            .collect();
        assert_eq!(ours, ignored_by_git(root.path(), &lines, &paths), "of {lines:?}");
        matched += ours.len();
    }
    assert!(matched > 10_000, "the lists are about these paths: {matched}");
}
