//! Durations as people type them: `30min`, `1h30m`, `2days`, `1 week`.

use jiff::{Span, SpanRelativeTo};
use std::time::Duration;

/// Reads a duration. A day has 24 hours; months and years have no fixed length and are refused.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span = text.trim().parse::<Span>().ok();
    let length = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    let length = length.and_then(|length| Duration::try_from(length).ok());
    length.ok_or_else(|| format!("{text:?} is not a valid duration, such as 30min, 1h30m, 2days or 1week"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_type_them() {
        let seconds = |text: &str| duration(text).unwrap().as_secs();
        assert_eq!(seconds("90s"), 90);
        assert_eq!(seconds("30min"), 30 * 60);
        assert_eq!(seconds("1h30m"), 90 * 60);
        assert_eq!(seconds("48h"), 48 * 3_600);
        for text in ["2days", "2d", "2 days", " 2day ", "1day 24hours"] {
            assert_eq!(seconds(text), 2 * 86_400, "{text}");
        }
        for text in ["1week", "7d", "1w", "168h"] {
            assert_eq!(seconds(text), 604_800, "{text}");
        }
    }

    #[test]
    fn other_text_is_named_with_examples() {
        for text in ["", "2", "tomorrow", "-1h", "1 month", "1y", "1h ago", "9999999999999999999d"] {
            assert!(duration(text).unwrap_err().contains("is not a valid duration, such as"), "{text:?}");
        }
    }
}
