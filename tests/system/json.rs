//! What `--json` prints, compared with what docs/json.md says.

use crate::world::{World, said};
use lifeboat_coordinator::cli::demo::lab::Side;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Output;

const DOCUMENT: &str = include_str!("../../docs/json.md");

/// A field: its type, whether it may be null, whether it may be absent.
#[derive(Clone, Debug, PartialEq)]
struct Field {
    kind: String,
    may_be_null: bool,
    is_optional: bool,
}

type Table = BTreeMap<String, Field>;

/// The tables of a command, in their order; each with the fields of another one that the line above it names.
fn tables(command: &str) -> Vec<Table> {
    let heading = |line: &str| line.starts_with("## ") && line.contains(&format!("`{command}`"));
    let lines = DOCUMENT.lines().skip_while(|line| !heading(line)).skip(1).take_while(|line| !line.starts_with("## "));
    let (mut tables, mut included, mut text) = (Vec::<Table>::new(), Table::new(), String::new());
    for line in lines {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", "field", "type", ..] => {
                if let Some((_, other)) = text.split_once("fields of `") {
                    included = self::tables(other.split('`').next().unwrap()).remove(0);
                }
                tables.push(std::mem::take(&mut included));
                text.clear();
            }
            ["", name, kind, _, ""] if name.starts_with('`') => {
                let (may_be_null, is_optional) = (kind.ends_with(" or null"), kind.ends_with(", optional"));
                let kind = kind.trim_end_matches(" or null").trim_end_matches(", optional").to_owned();
                let field = Field { kind, may_be_null, is_optional };
                tables.last_mut().unwrap().insert(name.trim_matches('`').to_owned(), field);
            }
            _ => text.push_str(line),
        }
    }
    assert!(!tables.is_empty(), "docs/json.md has no table for {command}");
    tables
}

fn is_of_kind(value: &Value, kind: &str) -> bool {
    match kind {
        "text" => value.is_string(),
        "time" => value.as_str().is_some_and(|text| text.contains('T') && text.ends_with('Z')),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "list" => value.is_array(),
        "list of texts" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        "list of objects" => value.as_array().is_some_and(|list| list.iter().all(Value::is_object)),
        other => panic!("{other} is no type of docs/json.md"),
    }
}

/// Every value has the fields of a table and no others.
fn check(command: &str, table: usize, values: &[Value]) {
    let table = &tables(command)[table];
    assert!(!values.is_empty(), "{command} printed nothing");
    for value in values {
        let printed = value.as_object().unwrap();
        for (name, field) in table {
            assert!(field.is_optional || printed.contains_key(name), "{command} does not print {name}: {value}");
        }
        for (name, value) in printed {
            let field = table.get(name).unwrap_or_else(|| panic!("docs/json.md lacks {name} of {command}"));
            let is_null = value.is_null() && field.may_be_null;
            assert!(is_null || is_of_kind(value, &field.kind), "{command}: {name} is {value}, not {field:?}");
        }
    }
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}: {}", said(output)))).collect()
}

struct Commands(World);

impl Commands {
    fn lifeboat(&self, arguments: &[&str]) -> Vec<Value> {
        lines(&self.0.lab.try_lifeboat(&[arguments, &["--json"]].concat()).unwrap())
    }

    fn agent(&self, arguments: &[&str]) -> Vec<Value> {
        lines(&self.0.lab.try_agent(&[arguments, &["--json"]].concat()).unwrap())
    }

    /// Without the lines about progress.
    fn restored(&self, arguments: &[&str]) -> Vec<Value> {
        let (progress, ended) = self.lifeboat(arguments).into_iter().partition(|value| value.get("progress").is_some());
        let progress: Vec<Value> = progress;
        for value in progress {
            let fields: Vec<_> = value["progress"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(fields, ["bytes", "fetched_bytes", "files", "reused_bytes"]);
        }
        ended
    }
}

#[test]
fn every_field_that_json_output_has_is_documented_with_its_type() {
    let world = World::new();
    world.write("etc/file.conf", b"one");
    std::os::unix::fs::symlink("file.conf", world.source().join("etc/link")).unwrap();
    let first = world.backed_up();
    world.write("etc/file.conf", b"another");
    world.backed_up();
    let (address, source) = (world.address(), world.source().display().to_string());
    let commands = Commands(world);
    let world = &commands.0;
    let lifeboat = |command: &str, table, arguments: &[&str]| check(command, table, &commands.lifeboat(arguments));
    lifeboat("lifeboat token create", 0, &["token", "create"]);
    lifeboat("lifeboat host list", 0, &["host", "list"]);
    lifeboat("lifeboat host show", 0, &["host", "show", "server"]);
    lifeboat("lifeboat snapshots", 0, &["snapshots"]);
    lifeboat("lifeboat ls", 0, &["ls", "-R", &address]);
    lifeboat("lifeboat find", 0, &["find", "*", "--all"]);
    lifeboat("lifeboat versions", 0, &["versions", &format!("{address}/etc/file.conf")]);
    lifeboat("lifeboat diff", 0, &["diff", &format!("{address}@{first}"), "latest"]);
    lifeboat("lifeboat backup", 0, &["backup", "server:data"]);
    lifeboat("lifeboat backup", 1, &["backup", "server:data", "--wait"]);
    lifeboat("lifeboat job list", 0, &["job", "list"]);
    let job = commands.lifeboat(&["job", "list"])[0]["job"].as_str().unwrap().to_owned();
    check("lifeboat job follow", 0, &commands.restored(&["job", "follow", &job]));
    let to = world.path("to").display().to_string();
    lifeboat("lifeboat restore --dry-run", 0, &["restore", &address, "--to", &to, "--dry-run"]);
    check("lifeboat restore", 0, &commands.restored(&["restore", &address, "--to", &to]));
    lifeboat("lifeboat restore --on", 0, &["restore", &address, "--on", "server", "--into", "one"]);
    let waited = ["restore", &address, "--on", "server", "--into", "two", "--wait"];
    check("lifeboat restore --on", 1, &commands.restored(&waited));
    lifeboat("lifeboat repository stats", 0, &["repository", "stats"]);

    let agent = |command: &str, arguments: &[&str]| check(command, 0, &commands.agent(arguments));
    agent("lifeboat-agent status", &["status"]);
    agent("lifeboat-agent policy check", &["policy", "check"]);
    let sources = commands.agent(&["sources"]).remove(0);
    check("lifeboat-agent sources", 0, &sources.as_object().unwrap().values().cloned().collect::<Vec<_>>());
    let (token, other) = (world.path("another-token"), world.path("another").display().to_string());
    fs::write(&token, world.lab.lifeboat(&["token", "create"]).unwrap().stdout).unwrap();
    let enrol = ["--state", &other, "--config", &other, "enrol", "--name", "other", "--token-file"];
    agent("lifeboat-agent enrol", &[&enrol[..], &[token.to_str().unwrap()]].concat());

    world.lab.stop(Side::Agent).unwrap();
    agent("lifeboat-agent backup", &["backup", "data"]);
    let packs = walkdir::WalkDir::new(world.lab.repository().join("packs")).into_iter().map(Result::unwrap);
    let pack = packs.into_iter().find(|entry| entry.file_type().is_file()).unwrap();
    fs::write(pack.path(), b"damaged").unwrap();
    lifeboat("lifeboat repository verify", 0, &["repository", "verify"]);
    world.lab.stop(Side::Coordinator).unwrap();
    lifeboat("lifeboat repository rebuild-index", 0, &["repository", "rebuild-index"]);
    let place = |name: &str| world.path(&format!("new/{name}")).display().to_string();
    let (state, repository) = (place("state"), place("repository"));
    let init = ["init", "--state", &state, "--repository", &repository, "--address", "localhost:7420"];
    lifeboat("lifeboat init", 0, &init);
    assert!(source.starts_with('/'));
}
