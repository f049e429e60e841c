//! When a host's next backup is due. Pure: values in, a moment out; `dispatch` asks and acts.
//!
//! Every host has a minute of its own in the nightly window, made from the repository's id and the host's number, so
//! that hosts spread over the window and each is met at the same time every night. A night has one turn, on the wall
//! clock of the configured zone. From this follow:
//!
//! * a host that was never backed up is due as soon as it is enrolled;
//! * a turn that was missed stays due until it is taken, once, however many nights went by;
//! * an attempt that failed is repeated after 10, 30, 60 minutes and so on, or at the next turn if that comes first;
//! * an attempt that ended well, ordered or not, is followed by the first turn after it ended.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use lifeboat_format::id::{HostId, RepositoryId};
use std::fmt;
use std::str::FromStr;

/// How long to wait after the first, second, … failure in a row; the last holds for all further ones.
const RETRY_MINUTES: [i64; 6] = [10, 30, 60, 120, 240, 480];

/// A history that lies further ahead than this is the mark of a clock that was put back. Less is waited for.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(1);

/// How far back turns are looked for; more than any gap a calendar makes.
const LOOK_BACK_DAYS: i64 = 2;

/// The part of each night in which hosts have their turns, by the wall clock: `01:00-05:00`.
///
/// It may pass midnight (`22:00-02:00`); from one minute to a day long. Its last minute is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: Time,
    minutes: u16,
}

/// Text that is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a window of the night; write it as \"01:00-05:00\"")]
pub struct WindowError {
    text: String,
}

impl Window {
    /// How many minutes it lasts, 1 to 1,440.
    pub fn minutes(&self) -> u16 {
        self.minutes
    }

    /// Whether a time of the wall clock lies in it.
    pub fn contains(&self, time: Time) -> bool {
        let since = (minute_of_day(time) + MINUTES_A_DAY - minute_of_day(self.from)) % MINUTES_A_DAY;
        since < self.minutes
    }
}

const MINUTES_A_DAY: u16 = 24 * 60;

/// A `Time`'s hour and minute are never negative, so their sum fits.
fn minute_of_day(time: Time) -> u16 {
    time.hour().unsigned_abs() as u16 * 60 + time.minute().unsigned_abs() as u16
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let wrong = || WindowError { text: text.to_owned() };
        let read = |part: &str| part.parse::<Time>().ok().filter(|_| part.len() == 5).ok_or_else(wrong);
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (read(from)?, read(to)?);
        let minutes = match (minute_of_day(to) + MINUTES_A_DAY - minute_of_day(from)) % MINUTES_A_DAY {
            0 => MINUTES_A_DAY,
            minutes => minutes,
        };
        Ok(Self { from, minutes })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = (minute_of_day(self.from) + self.minutes) % MINUTES_A_DAY;
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from.hour(), self.from.minute(), to / 60, to % 60)
    }
}

/// What the turns of one host follow from.
#[derive(Debug, Clone)]
pub struct Turns {
    window: Window,
    zone: TimeZone,
    /// Minutes after the window's start.
    minute: u16,
}

impl Turns {
    /// The turns of `host`: the same for ever, as long as `window` and `zone` stay.
    pub fn new(repository: &RepositoryId, host: HostId, window: Window, zone: TimeZone) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("lifeboat 1 turn");
        hasher.update(repository.as_bytes()).update(&host.get().to_le_bytes());
        let hash = hasher.finalize();
        let number = u64::from_le_bytes(std::array::from_fn(|at| hash.as_bytes()[at]));
        let minute = (number % u64::from(window.minutes)) as u16;
        Self { window, zone, minute }
    }

    /// The turn of the night that begins on `date`. Where clocks are put forward over it, it comes so much later;
    /// where they are put back, it is the first of the two.
    fn of_night(&self, date: Date) -> Result<Timestamp, jiff::Error> {
        let local: DateTime = date.to_datetime(self.window.from).checked_add(i64::from(self.minute).minutes())?;
        Ok(local.to_zoned(self.zone.clone())?.timestamp())
    }

    /// The first turn after `moment`. At the end of the calendar there is none, and it is its last moment.
    pub fn first_after(&self, moment: Timestamp) -> Timestamp {
        let today = moment.to_zoned(self.zone.clone()).date();
        let start = today.checked_sub(LOOK_BACK_DAYS.days()).unwrap_or(today);
        start
            .series(1.day())
            .map_while(|date| self.of_night(date).ok())
            .find(|turn| *turn > moment)
            .unwrap_or(Timestamp::MAX)
    }
}

/// What happened so far to one source set of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// No attempt yet.
    Never {
        /// When the host was enrolled.
        enrolled: Timestamp,
    },
    /// The last attempt left a snapshot, or an operator cancelled it.
    Succeeded {
        /// When it ended.
        ended: Timestamp,
    },
    /// The last attempts failed.
    Failed {
        /// When it ended.
        ended: Timestamp,
        /// How many failed in a row, from 1.
        failures: u32,
    },
}

/// When the next backup is due; in the past if a turn was missed.
///
/// Of an attempt in the future nobody knows when it was: the clock was put back. Another one is due `now`, so that one
/// wrong date costs one backup, and does not end them for a year.
pub fn next_due(turns: &Turns, history: History, now: Timestamp) -> Timestamp {
    let is_ahead = |ended: Timestamp| ended.duration_since(now) > AHEAD_MAX;
    match history {
        History::Never { enrolled } => enrolled.min(now),
        History::Succeeded { ended } | History::Failed { ended, .. } if is_ahead(ended) => now,
        History::Succeeded { ended } => turns.first_after(ended),
        History::Failed { ended, failures } => {
            let wait = RETRY_MINUTES[(failures.max(1) as usize - 1).min(RETRY_MINUTES.len() - 1)];
            let retry = ended.saturating_add(SignedDuration::from_mins(wait));
            turns.first_after(ended).min(retry.unwrap_or(Timestamp::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turns(host: u32, window: &str, zone: &str) -> Turns {
        let repository = RepositoryId::from_bytes([7; 16]);
        Turns::new(&repository, HostId::new(host), window.parse().unwrap(), TimeZone::get(zone).unwrap())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const NIGHTS: &str = "01:00-05:00";
    const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"];
    const WINDOWS: [&str; 4] = [NIGHTS, "22:00-02:00", "00:00-00:00", "23:59-00:00"];

    fn moment() -> impl Strategy<Value = Timestamp> {
        (1_500_000_000i64..2_500_000_000).prop_map(|second| Timestamp::from_second(second).unwrap())
    }

    proptest! {
        #[test]
        fn a_turn_lies_in_the_window_unless_clocks_were_put_forward_over_it(
            host in 1u32.., zone in prop::sample::select(&ZONES), window in prop::sample::select(&WINDOWS), after in moment()
        ) {
            let turns = turns(host, window, zone);
            let turn = turns.first_after(after);
            prop_assert!(turn > after);
            let local = turn.to_zoned(turns.zone.clone());
            let planned = local.date().to_datetime(turns.window.from).checked_add(i64::from(turns.minute).minutes()).unwrap();
            let in_gap = turns.zone.to_ambiguous_timestamp(planned).is_ambiguous();
            prop_assert!(turns.window.contains(local.time()) || in_gap, "{local}");
        }

        #[test]
        fn a_night_has_exactly_one_turn(
            host in 1u32.., zone in prop::sample::select(&ZONES), window in prop::sample::select(&WINDOWS), after in moment()
        ) {
            let turns = turns(host, window, zone);
            let first = turns.first_after(after);
            let second = turns.first_after(first);
            let apart = second.duration_since(first);
            prop_assert!(apart >= SignedDuration::from_hours(22), "{first} {second}");
            prop_assert!(apart <= SignedDuration::from_hours(26), "{first} {second}");
        }

        #[test]
        fn a_later_attempt_is_never_followed_by_an_earlier_turn(host in 1u32.., one in moment(), other in moment()) {
            let turns = turns(host, NIGHTS, "Europe/Berlin");
            let (early, late) = (one.min(other), one.max(other));
            let due = |ended| next_due(&turns, History::Succeeded { ended }, Timestamp::MAX);
            prop_assert!(due(early) <= due(late));
        }

        #[test]
        fn a_failure_is_repeated_later_each_time_and_never_after_the_next_turn(host in 1u32.., ended in moment(), failures in 1u32..) {
            let turns = turns(host, NIGHTS, "Europe/Berlin");
            let due = |failures| next_due(&turns, History::Failed { ended, failures }, Timestamp::MAX);
            prop_assert!(due(failures) > ended);
            prop_assert!(due(failures) <= due(failures.saturating_add(1)));
            prop_assert!(due(failures) <= turns.first_after(ended));
        }

        #[test]
        fn a_clock_that_was_put_back_does_not_end_backups(host in 1u32.., put_back in moment(), minutes in 1i64..100_000_000) {
            let turns = turns(host, NIGHTS, "UTC");
            let ended = put_back + SignedDuration::from_mins(minutes);
            let histories = [
                History::Succeeded { ended }, History::Failed { ended, failures: 9 }, History::Never { enrolled: ended },
            ];
            for history in histories {
                let mut hours = (0..=27).map(|hours| put_back + SignedDuration::from_hours(hours));
                prop_assert!(hours.any(|now| next_due(&turns, history, now) <= now), "{history:?}");
            }
        }

        #[test]
        fn a_window_reads_back_from_what_it_shows(from in 0u16..1440, to in 0u16..1440) {
            let text = format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60);
            prop_assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_missed_turn_is_caught_up_once() {
        let turns = turns(3, NIGHTS, "Europe/Berlin");
        let (last, now) = (at("2026-11-01T02:00:00Z"), at("2026-11-09T12:00:00Z"));
        let due = next_due(&turns, History::Succeeded { ended: last }, now);
        assert!(due <= now, "eight turns were missed");
        let after = next_due(&turns, History::Succeeded { ended: now }, now);
        assert!(after > now, "and one attempt makes up for them");
        assert!(after < at("2026-11-10T05:00:00Z"));
    }

    #[test]
    fn a_clock_that_is_set_back_by_seconds_costs_no_backup() {
        let turns = turns(3, NIGHTS, "UTC");
        let ended = at("2026-11-01T12:00:05Z");
        assert!(next_due(&turns, History::Succeeded { ended }, at("2026-11-01T12:00:00Z")) > ended);
    }

    #[test]
    fn hosts_spread_over_the_window() {
        let window: Window = NIGHTS.parse().unwrap();
        let mut quarters = [0; 4];
        for host in 1..=400 {
            quarters[usize::from(turns(host, NIGHTS, "UTC").minute * 4 / window.minutes())] += 1;
        }
        assert!(quarters.iter().all(|count| (70..=130).contains(count)), "{quarters:?}");
    }

    #[test]
    fn text_that_is_no_window_is_refused() {
        for text in ["", "01:00", "1-5", "01:00-25:00", "01:00–05:00", "01:00-05:00-06:00"] {
            assert!(text.parse::<Window>().is_err(), "{text:?}");
        }
    }
}
