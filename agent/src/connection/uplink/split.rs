//! Cuts a batch into messages of about one MiB. Pure.

use crate::uplink::{Batch, OutgoingChunk, OutgoingNode};
use lifeboat_format::ENCODER_VERSION;
use lifeboat_proto::convert::backup::{ChunkUp, NodeUp, Upload};
use lifeboat_proto::limits::{UPLOAD_BYTES_AIM, UPLOAD_ITEMS_MAX};

/// The messages of a batch, chunks before nodes, each in the order given; their sequence is still 0. A message is
/// closed before it would pass one MiB, so only a single record above that makes a larger one.
pub fn messages(batch: Batch) -> Vec<Upload> {
    let mut messages = Vec::new();
    let mut open = Open::default();
    for chunk in batch.chunks {
        open.make_room(chunk.sealed.len(), &mut messages);
        open.upload.chunks.push(chunk_up(chunk));
    }
    for node in batch.nodes {
        open.make_room(node.record.len(), &mut messages);
        open.upload.nodes.push(node_up(node));
    }
    open.close(&mut messages);
    messages
}

/// How many sealed bytes a message carries.
pub fn sealed_bytes(upload: &Upload) -> usize {
    let chunks: usize = upload.chunks.iter().map(|chunk| chunk.sealed.len()).sum();
    chunks + upload.nodes.iter().map(|node| node.record.len()).sum::<usize>()
}

struct Open {
    upload: Upload,
    bytes: usize,
}

impl Default for Open {
    fn default() -> Self {
        let upload = Upload { handle: None, sequence: 0, chunks: Vec::new(), nodes: Vec::new() };
        Self { upload, bytes: 0 }
    }
}

impl Open {
    fn items(&self) -> usize {
        self.upload.chunks.len().max(self.upload.nodes.len())
    }

    fn make_room(&mut self, bytes: usize, messages: &mut Vec<Upload>) {
        if self.bytes + bytes > UPLOAD_BYTES_AIM || self.items() == UPLOAD_ITEMS_MAX {
            self.close(messages);
        }
        self.bytes += bytes;
    }

    fn close(&mut self, messages: &mut Vec<Upload>) {
        if self.items() > 0 {
            messages.push(std::mem::take(self).upload);
        }
    }
}

fn chunk_up(chunk: OutgoingChunk) -> ChunkUp {
    ChunkUp {
        id: chunk.id,
        scope: chunk.scope,
        encoder: ENCODER_VERSION,
        digest: chunk.digest,
        sealed: chunk.sealed.into(),
    }
}

fn node_up(node: OutgoingNode) -> NodeUp {
    NodeUp { id: node.id, scope: node.scope, encoder: ENCODER_VERSION, record: node.record.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::id::{ChunkId, Digest, NodeId, Scope};

    fn chunk(number: u8, bytes: usize) -> OutgoingChunk {
        let sealed = vec![number; bytes];
        let digest = Digest::of(&sealed);
        OutgoingChunk { id: ChunkId::from_bytes([number; 32]), scope: Scope::new(1), digest, sealed }
    }

    fn node(number: u8, bytes: usize) -> OutgoingNode {
        OutgoingNode { id: NodeId::from_bytes([number; 32]), scope: Scope::new(1), record: vec![number; bytes] }
    }

    #[test]
    fn order_is_kept_and_no_message_passes_a_mebibyte_unless_one_record_does() {
        let chunks = (0..5).map(|number| chunk(number, 400 << 10)).collect();
        let messages = messages(Batch { chunks, nodes: vec![node(8, 100), node(9, 3 << 20), node(10, 5)] });
        let sizes: Vec<_> = messages.iter().map(sealed_bytes).collect();
        assert_eq!(sizes, [800 << 10, 800 << 10, (400 << 10) + 100, 3 << 20, 5]);
        let chunks: Vec<_> =
            messages.iter().flat_map(|message| &message.chunks).map(|chunk| chunk.id.as_bytes()[0]).collect();
        let nodes: Vec<_> =
            messages.iter().flat_map(|message| &message.nodes).map(|node| node.id.as_bytes()[0]).collect();
        assert_eq!((chunks, nodes), (vec![0, 1, 2, 3, 4], vec![8, 9, 10]));
    }

    #[test]
    fn an_empty_batch_is_no_message() {
        assert!(messages(Batch::default()).is_empty());
    }
}
