//! How a command speaks: data to standard output, talk to standard error, and `--json` without a word in between.
//!
//! With `--json` each row or result is one line of JSON. Tables and progress are for people: progress only shows on a
//! terminal. Names of files are shown escaped wherever they appear, so none can act on a terminal (INV-54).

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use lifeboat_proto::convert::Ended;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::Outcome;
use serde::Serialize;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// The failure of a command whose reader closed the pipe.
const READER_GONE: &str = "standard output was closed by its reader";

/// Where a command's words go.
#[derive(Debug)]
pub struct Output {
    json: bool,
}

/// Something that a table shows in a line.
pub trait Row: Serialize {
    /// The table's head.
    const HEADERS: &'static [&'static str];
    /// One text for each column.
    fn cells(&self) -> Vec<String>;
}

impl Output {
    /// For people, or for programs.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a program reads this.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// A list.
    pub fn table<R: Row>(&mut self, rows: &[R]) -> Result<(), Failure> {
        if self.json {
            return rows.iter().try_for_each(|row| self.json_line(row));
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(R::HEADERS);
        rows.iter().for_each(|row| {
            table.add_row(row.cells());
        });
        for line in table.lines() {
            self.line(line.trim())?;
        }
        Ok(())
    }

    /// The outcome of work that is done: a command whose output nobody reads any more still ends as its work did.
    pub fn outcome<T: Serialize, D: Display>(
        &mut self,
        value: &T,
        people: impl FnOnce(&T) -> D,
    ) -> Result<(), Failure> {
        match self.value(value, people) {
            Err(failure) if is_reader_gone(&failure) => Ok(()),
            written => written,
        }
    }

    /// One result: as JSON, or as the text that `people` makes of it.
    pub fn value<T: Serialize, D: Display>(&mut self, value: &T, people: impl FnOnce(&T) -> D) -> Result<(), Failure> {
        if self.json { self.json_line(value) } else { self.line(people(value)) }
    }

    fn json_line<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
        self.line(text)
    }

    /// A line of data.
    pub fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        written(writeln!(io::stdout().lock(), "{text}"))
    }

    /// Data as it is: the content of a file.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        written(io::stdout().lock().write_all(bytes))
    }

    /// Something that a person may want to know; no data. If nobody listens, that is no failure.
    pub fn say(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A line for programs about what goes on. If nobody reads any more, the work goes on all the same.
    pub fn tell<T: Serialize>(&self, value: &T) {
        if let Ok(text) = serde_json::to_string(value) {
            let _ = writeln!(io::stdout().lock(), "{text}");
        }
    }

    /// A bar on a terminal, nothing elsewhere. `total` is in bytes; without one it counts and shows the rate.
    pub fn progress(&self, what: &str, total: Option<u64>) -> ProgressBar {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let hidden = self.json || !io::stderr().is_terminal();
        bar.set_draw_target(if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        let template = match total {
            // The last part is cut at the edge: a line that wraps would leave its rest on the screen.
            Some(_) => "{prefix} {bytes} of {total_bytes}, {bytes_per_sec}{left}{wide_msg}",
            None => "{spinner} {prefix} {bytes}, {bytes_per_sec} {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key("left", time_left));
        }
        bar.set_prefix(what.to_owned());
        if !hidden {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar
    }
}

/// How long it will take yet, once that can be known.
fn time_left(state: &ProgressState, to: &mut dyn fmt::Write) {
    if state.pos() > 0 {
        // A line on a terminal: nothing is lost with it.
        let _ = write!(to, ", {:#} left", HumanDuration(state.eta()));
    }
}

/// Whether a command ended because nobody reads its output any more (`lifeboat ls … | head`): no reason to complain, and
/// none to claim success, for what was not printed may have been a loss.
pub fn is_reader_gone(failure: &Failure) -> bool {
    failure.to_string() == READER_GONE
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::new(ErrorClass::Full, READER_GONE)),
        Err(error) => Err(Failure::new(ErrorClass::Full, format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// So many things, with the word for one or for several.
pub fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// Bytes, for people.
pub fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// The same in three digits, for columns: at most eight characters.
pub fn short_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut number, mut unit) = (bytes as f64, 0);
    // What would be written as 1000 is better in the next unit.
    while number >= 999.5 && unit + 1 < UNITS.len() {
        (number, unit) = (number / 1024.0, unit + 1);
    }
    let decimals = match number {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {}", UNITS[unit])
}

/// A moment, to the minute, in the reader's zone; a dash for none.
pub fn moment(time: Option<Timestamp>) -> String {
    match time {
        Some(time) => time.to_zoned(zone()).strftime("%Y-%m-%d %H:%M").to_string(),
        None => "–".to_owned(),
    }
}

/// The reader's time zone: in it, times are read and shown.
pub fn zone() -> TimeZone {
    TimeZone::system()
}

/// What it is called; UTC where the system names none.
pub fn zone_name() -> String {
    let zone = zone();
    let offset = || zone.to_fixed_offset().map_or_else(|_| "this machine".to_owned(), |offset| format!("UTC{offset}"));
    if zone.is_unknown() { "UTC".to_owned() } else { zone.iana_name().map_or_else(offset, str::to_owned) }
}

/// How long ago, in one unit.
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    match u64::try_from(now.duration_since(time).as_secs()) {
        Err(_) => "in the future".to_owned(),
        Ok(seconds) => format!("{} ago", span(seconds)),
    }
}

/// How long, in one unit.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A time from a message: nanoseconds since 1970; 0 is none.
pub fn from_ns(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds != 0).then(|| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok())?
}

/// The name of an outcome; none if there is none yet.
pub fn outcome_name(outcome: Outcome) -> Option<&'static str> {
    Ended::try_from(outcome).ok().map(Ended::name)
}

/// Hexadecimal digits of an id.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a name in hexadecimal digits, for JSON; none where `shown` is the name itself.
pub fn raw_name(shown: &str, name: &[u8]) -> Option<String> {
    (shown.as_bytes() != name).then(|| hex(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_one_unit() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let told = |seconds: i64| ago(Timestamp::from_second(1_000_000_000 - seconds).unwrap(), now);
        assert_eq!(told(119), "119 s ago");
        assert_eq!(told(3_600), "60 min ago");
        assert_eq!(told(86_400), "24 h ago");
        assert_eq!(told(172_800), "2 days ago");
        assert_eq!(told(-5), "in the future");
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_failures_to_write() {
        let failed = |kind: io::ErrorKind| written(Err(kind.into())).unwrap_err();
        assert!(is_reader_gone(&failed(io::ErrorKind::BrokenPipe)));
        assert!(!is_reader_gone(&failed(io::ErrorKind::StorageFull)));
    }

    #[test]
    fn a_size_in_a_column_has_three_digits() {
        let sizes = [0, 999, 1000, 1023, 1024, 55_500, 402_653_184, 1_073_741_823, 1 << 40, u64::MAX];
        let wanted = [
            "0 B", "999 B", "0.98 KiB", "1.00 KiB", "1.00 KiB", "54.2 KiB", "384 MiB", "1.00 GiB", "1.00 TiB",
            "16.0 EiB",
        ];
        assert_eq!(sizes.map(short_size), wanted);
        assert!((0..u64::BITS).all(|bit| short_size(1 << bit).len() <= 8));
    }

    #[test]
    fn no_time_is_shown_as_none() {
        assert_eq!(moment(from_ns(0)), "–");
        let long_ago = from_ns(1_000_000_000).unwrap().to_zoned(zone());
        assert_eq!(moment(Some(long_ago.timestamp())), long_ago.strftime("%Y-%m-%d %H:%M").to_string());
    }
}
