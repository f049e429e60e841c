//! How RocksDB is set up: the tables, and the options of each, for a hundred million chunks on a small machine.

use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DataBlockIndexType, Options};

/// Chunk id → where its sealed forms lie.
pub(super) const CHUNKS: &str = "chunks";
/// Node id → where its record lies, and its home.
pub(super) const NODES: &str = "nodes";
/// (run, node id) → what a run has sent; dropped when it ends.
pub(super) const SENT: &str = "sent";
/// (session of a restore, node id): what was served under a grant; dropped when it ends.
pub(super) const SERVED: &str = "served";
/// (walk, host, node id) → what a walk over all trees found; dropped when it ends.
pub(super) const WALKED: &str = "walked";
/// Numbers of packs, and how far the index has followed the repository.
pub(super) const META: &str = "meta";

/// All tables.
pub(super) const ALL: [&str; 6] = [CHUNKS, NODES, SENT, SERVED, WALKED, META];

/// How much memory the index takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexMemory {
    /// For blocks read from disk, their filters and indexes. 128 MiB serves small machines, 512 MiB large ones.
    pub block_cache_bytes: usize,
    /// For rows not yet written to their place, over all tables.
    pub write_buffer_bytes: usize,
}

impl IndexMemory {
    /// For a machine that does other work too.
    pub const SMALL: Self = Self { block_cache_bytes: 128 << 20, write_buffer_bytes: 32 << 20 };
}

/// Options of the database as a whole.
pub(super) fn database(memory: IndexMemory) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(memory.write_buffer_bytes);
    options.set_max_total_wal_size(4 * memory.write_buffer_bytes as u64);
    options.set_max_open_files(512);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(4);
    options.set_recycle_log_file_num(0);
    // After a power cut a prefix of the writes is there; start-up replays the rest.
    options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::PointInTime);
    options
}

/// All tables, which share one cache.
pub(super) fn tables(memory: IndexMemory) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_hyper_clock_cache(memory.block_cache_bytes, 0);
    let table = |name| ColumnFamilyDescriptor::new(name, table_options(&cache, memory));
    ALL.map(table).into()
}

fn table_options(cache: &Cache, memory: IndexMemory) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(4 << 10);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_whole_key_filtering(true);
    blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    blocks.set_data_block_hash_ratio(0.75);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    options.set_write_buffer_size(memory.write_buffer_bytes / 2);
    options
}
