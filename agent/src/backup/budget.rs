//! How a backup divides the memory that it may take, so that it is a constant of the configuration (INV-67). Pure.
//!
//! What is counted are the parts that grow with the number of processors. Few processors take less than the limit; more
//! than fit into it stay idle.

/// What a backup takes without an explicit limit, at most.
pub const MEMORY_DEFAULT: u64 = 256 << 20;
/// Below this nothing useful can be done.
pub const MEMORY_MIN: u64 = 64 << 20;

/// The program, TLS, sorted names, leaves between walk and tree, and what is sent and not answered.
const BASE_BYTES: u64 = 34 << 20;
/// A sealer: tables of zstd, a frame, the frame opened again.
const SEALER_BYTES: u64 = 3 << 20;
/// What a worker reads a large file through.
const BUFFER_BYTES: u64 = 1 << 20;
/// How much plaintext a worker collects before it asks. More brings nothing.
const WINDOW_BYTES_MAX: u64 = 4 << 20;
/// Less costs more in questions than it saves.
const WINDOW_BYTES_MIN: u64 = 1 << 20;

/// How many threads, and how much each may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Threads that compress and seal.
    pub sealers: usize,
    /// Threads that read, cut and ask: one more than sealers, so that none of these waits for a disk.
    pub workers: usize,
    /// How much plaintext one worker collects before it asks.
    pub window_bytes: usize,
}

impl Budget {
    /// For so many processors within so many bytes; a limit below [`MEMORY_MIN`] counts as that.
    pub fn new(memory: u64, processors: usize) -> Self {
        let rest = memory.max(MEMORY_MIN) - BASE_BYTES;
        // A sealer and a worker for each processor, and one more worker.
        let fitting = (rest - worker_bytes(WINDOW_BYTES_MIN)) / (SEALER_BYTES + worker_bytes(WINDOW_BYTES_MIN));
        let sealers = (processors as u64).clamp(1, fitting.max(1));
        let workers = sealers + 1;
        let for_windows = (rest - sealers * SEALER_BYTES) / workers - worker_bytes(0);
        let window_bytes = (for_windows / 2).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        Self { sealers: sealers as usize, workers: workers as usize, window_bytes: window_bytes as usize }
    }

    /// What all of it takes at most.
    #[cfg(test)]
    fn bytes(&self) -> u64 {
        BASE_BYTES + self.sealers as u64 * SEALER_BYTES + self.workers as u64 * worker_bytes(self.window_bytes as u64)
    }
}

/// A worker holds a window, the same again sealed, a buffer to read through, and a sealer for nodes.
const fn worker_bytes(window_bytes: u64) -> u64 {
    2 * window_bytes + BUFFER_BYTES + SEALER_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_67_whatever_the_processors_a_backup_stays_within_its_memory() {
        for memory in [0, MEMORY_MIN, 100 << 20, MEMORY_DEFAULT, 1 << 30] {
            for processors in [0, 1, 2, 3, 4, 8, 16, 64, 1000] {
                let budget = Budget::new(memory, processors);
                assert!(budget.bytes() <= memory.max(MEMORY_MIN), "{memory} bytes, {processors}: {budget:?}");
                assert!(budget.sealers >= 1 && budget.workers == budget.sealers + 1, "{budget:?}");
            }
        }
    }

    #[test]
    fn what_fits_is_used_whole() {
        let whole = |processors| Budget { sealers: processors, workers: processors + 1, window_bytes: 4 << 20 };
        assert_eq!(Budget::new(MEMORY_DEFAULT, 2), whole(2));
        assert_eq!(Budget::new(MEMORY_DEFAULT, 8), whole(8));
        assert_eq!(Budget::new(1 << 30, 64), whole(64));
        let large = Budget::new(MEMORY_DEFAULT, 64);
        assert!(large.sealers > 20 && large.window_bytes >= 1 << 20, "{large:?}");
    }
}
