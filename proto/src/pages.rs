//! Lists of any length, in messages of a bounded size.

use crate::limits::PAGE_BYTES_AIM;
use prost::Message;

/// Gives `send` the rows in messages of about [`PAGE_BYTES_AIM`] bytes, until it answers `false`. The first message always
/// comes, also without rows.
pub fn pages<T: Message>(rows: impl Iterator<Item = T>, mut send: impl FnMut(Vec<T>) -> bool) {
    let (mut page, mut bytes, mut is_first) = (Vec::new(), 0, true);
    for row in rows {
        bytes += row.encoded_len();
        page.push(row);
        if bytes >= PAGE_BYTES_AIM {
            if !send(std::mem::take(&mut page)) {
                return;
            }
            (bytes, is_first) = (0, false);
        }
    }
    if is_first || !page.is_empty() {
        send(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MESSAGE_BYTES_MAX;
    use crate::v1::{ListSnapshotsResponse, SnapshotInfo};

    fn row(number: u64, bytes: usize) -> SnapshotInfo {
        SnapshotInfo { number, suspect_reason: "x".repeat(bytes), ..SnapshotInfo::default() }
    }

    fn sent(rows: &[SnapshotInfo]) -> Vec<Vec<SnapshotInfo>> {
        let mut sent = Vec::new();
        pages(rows.iter().cloned(), |page| {
            sent.push(page);
            true
        });
        sent
    }

    #[test]
    fn a_list_that_does_not_fit_in_a_message_comes_in_several() {
        let rows: Vec<_> = (0..5000).map(|number| row(number, 4000)).collect();
        let whole = ListSnapshotsResponse { snapshots: rows.clone(), ..Default::default() };
        assert!(whole.encoded_len() > MESSAGE_BYTES_MAX);
        let sent = sent(&rows);
        let longest = sent.iter().map(|page| page.iter().map(Message::encoded_len).sum::<usize>()).max().unwrap();
        assert!(longest < PAGE_BYTES_AIM + 5000, "{longest}");
        assert_eq!(sent.concat(), rows, "each row once, in order");
    }

    #[test]
    fn an_empty_list_is_a_message_and_a_full_one_is_not_followed_by_an_empty_one() {
        assert_eq!(sent(&[]), [Vec::new()]);
        assert_eq!(sent(&[row(1, PAGE_BYTES_AIM)]).len(), 1);
        assert_eq!(sent(&[row(1, PAGE_BYTES_AIM), row(2, 1)]).len(), 2);
    }

    #[test]
    fn nothing_is_sent_to_a_reader_that_is_gone() {
        let mut calls = 0;
        pages((0..5000).map(|number| row(number, 4000)), |_| {
            calls += 1;
            calls < 2
        });
        assert_eq!(calls, 2);
    }
}
