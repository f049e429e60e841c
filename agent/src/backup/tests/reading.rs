//! Files whose metadata does not say what there is: sizes that are not their own, times that prove nothing, changes while
//! they are read.

use super::*;

impl Lab {
    /// A lab below `place`, whose files are old enough to be trusted where times are.
    fn below(place: &str) -> Self {
        let directory = tempfile::tempdir_in(place).unwrap();
        let clock = Ahead(Duration::from_secs(600));
        let lab = Self { directory, coordinator: Coordinator::default(), clock };
        fs::create_dir(lab.source()).unwrap();
        fs::create_dir(lab.state()).unwrap();
        lab
    }

    /// The content of one file of the newest snapshot, by its absolute path.
    fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.read_below(&path.as_bytes()[1..], |entries, source| match &entries.first()?.kind {
            EntryKind::File(file) => Some(source.content(file)),
            _ => None,
        })
    }
}

/// Every gap of a report, with what became of it.
fn gaps(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    report.gaps.name_all(|path, reason| {
        lines.push(format!("/{}: {reason}", String::from_utf8_lossy(path)));
        true
    });
    lines
}

#[test]
fn inv_17_a_file_is_read_to_its_end_whatever_size_it_states() {
    let lab = Lab::new();
    // The first states no bytes, the second a whole page.
    let paths = ["/proc/version", "/sys/devices/system/cpu/online"];
    let mut plan = lab.plan(1);
    plan.roots = paths.map(PathBuf::from).to_vec();
    for _ in 0..2 {
        let report = lab.backup_with(&plan).unwrap();
        assert_eq!(gaps(&report), [""; 0]);
        assert!(report.counts.read_bytes > 0, "nothing proves that they are unchanged");
        for path in paths {
            assert_eq!(lab.content(path), Some(fs::read(path).unwrap()), "{path}");
        }
    }
}

#[test]
fn inv_18_what_a_file_system_in_memory_does_not_prove_is_read() {
    let lab = Lab::below("/dev/shm");
    lab.write("a", &noise(1, 3000));
    lab.write("large", &noise(2, 2_000_000));
    lab.write("other", b"another file with two names");
    for (first, later) in [("a", "b"), ("large", "link"), ("other", "third")] {
        fs::hard_link(lab.source().join(first), lab.source().join(later)).unwrap();
    }
    lab.write("empty", b"");
    for _ in 0..2 {
        let report = lab.backup();
        assert_eq!(report.outcome, Outcome::Complete);
        assert_eq!(report.counts.read_bytes, 2 * (3000 + 2_000_000 + 27), "each name is read");
        let links = lab.entries().into_iter().filter_map(|entry| match entry.kind {
            EntryKind::HardLink { to } => Some((to, entry.path)),
            _ => None,
        });
        let names =
            links.map(|(to, path)| [to, path].map(|path| path.rsplit(|byte| *byte == b'/').next().unwrap().to_vec()));
        let expected = [["a", "b"], ["large", "link"], ["other", "third"]];
        assert_eq!(names.collect::<Vec<_>>(), expected.map(|names| names.map(|name| name.as_bytes().to_vec())));
        assert_eq!(lab.contents()["large"], noise(2, 2_000_000));
    }
}

/// Does something each time that anything is asked for.
struct Whenever<F>(Coordinator, Arc<F>);

struct WheneverRun<F>(Box<dyn Run>, Arc<F>);

impl<F: Fn() + Send + Sync + 'static> Uplink for Whenever<F> {
    fn begin(&self, source_set: &str, job: &str) -> Result<Box<dyn Run>, UplinkError> {
        Ok(Box::new(WheneverRun(self.0.begin(source_set, job)?, self.1.clone())))
    }
}

impl<F: Fn() + Send + Sync> Run for WheneverRun<F> {
    fn begun(&self) -> &Begun {
        self.0.begun()
    }

    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>, UplinkError> {
        (self.1)();
        self.0.has(ids)
    }

    fn upload(&self, batch: Batch) -> Result<Receipt, UplinkError> {
        self.0.upload(batch)
    }

    fn commit(&self, manifest: Vec<u8>, envelope: Vec<u8>) -> Result<Answer, UplinkError> {
        self.0.commit(manifest, envelope)
    }

    fn abort(&self) -> Result<(), UplinkError> {
        self.0.abort()
    }
}

#[test]
fn inv_17_a_gap_says_whether_the_file_is_kept_or_left_out() {
    let lab = Lab::new();
    lab.write("moving", &noise(1, 20_000_000));
    lab.write("shrinking", &noise(2, 20_000_000));
    let (moving, shrinking) = (lab.source().join("moving"), lab.source().join("shrinking"));
    let change = move || {
        use std::os::unix::fs::FileExt;
        fs::OpenOptions::new().write(true).open(&moving).unwrap().write_all_at(b"x", 0).unwrap();
        let shrinking = fs::OpenOptions::new().write(true).open(&shrinking).unwrap();
        let bytes = shrinking.metadata().unwrap().len();
        shrinking.set_len(bytes.clamp(12_000_000, 16_000_000).min(bytes - 1)).unwrap();
    };
    let mut plan = lab.plan(1);
    plan.roots.push(lab.directory.path().join("never-there"));
    let uplink = Whenever(lab.coordinator.clone(), Arc::new(change));
    let (progress, stop) = (Progress::default(), AtomicBool::new(false));
    let around = Surroundings { uplink: &uplink, clock: &lab.clock, progress: &progress, stop: &stop };
    let report = run(&plan, &around).unwrap();
    let gaps = gaps(&report);
    assert_eq!((report.gaps.count(), report.gaps.left_out()), (3, 1), "{gaps:?}");
    for (gap, ends) in gaps.iter().zip(["/never-there: left out: ", "/moving: kept: ", "/shrinking: kept: "]) {
        assert!(gap.contains(ends), "{gap} has {ends}");
    }
    let contents = lab.contents();
    assert_eq!(contents["moving"].len(), 20_000_000);
    assert!((1..20_000_000).contains(&contents["shrinking"].len()), "{}", contents["shrinking"].len());
    assert!(report.counts.read_bytes <= 2 * 40_000_000, "read over and over: {}", report.counts.read_bytes);
}
