//! The log of both programs: to standard error. In systemd's journal each line has the priority of its level; colours are
//! for terminals only, and NO_COLOR turns them off.

use std::fmt;
use std::io::{self, IsTerminal};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::registry::LookupSpan;

/// Starts it with this level, unless LIFEBOAT_LOG sets another one. A second start in one process changes nothing.
pub fn start(level: &str) {
    let filter = EnvFilter::try_from_env("LIFEBOAT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let _started_before = if is_journal() {
        let format = format().with_target(false).with_ansi(false).without_time();
        log.with_ansi(false).event_format(WithPriority(format)).try_init()
    } else {
        log.with_target(false).with_ansi(has_colours()).try_init()
    };
}

/// What stands before a line on standard error that reports an error: a priority in the journal, nothing elsewhere.
pub fn error_prefix() -> &'static str {
    if is_journal() { "<3>" } else { "" }
}

fn has_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && io::stderr().is_terminal()
}

/// Whether standard error is the stream that systemd opened to the journal, and not redirected since.
fn is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| stream == *format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Puts the priority that systemd reads (sd-daemon(3)) before each line.
struct WithPriority<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// The priority of syslog(3) for a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_in_the_journal_begins_with_its_priority() {
        let written = Written::default();
        let writer = written.clone();
        let format = format().with_target(false).with_ansi(false).without_time();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(WithPriority(format))
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::error!(host = "web1", "job failed");
            tracing::warn!("disk nearly full");
            tracing::info!("serving");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("<3>") && lines[0].contains("job failed") && lines[0].contains("web1"), "{text}");
        assert!(lines[1].starts_with("<4>") && lines[2].starts_with("<6>"), "{text}");
    }
}
