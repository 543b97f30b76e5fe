//! The parsers of this folder on bytes in memory.

use super::git_index;
use super::lock::Lock;
use super::log::{BuildLog, Said};

pub(crate) fn git_index(bytes: &[u8], hash: usize) -> Option<Vec<Vec<u8>>> {
    Some(git_index::read(bytes, hash).ok()?.into_iter().map(|tracked| tracked.path).collect())
}

pub(crate) fn build_log(bytes: &[u8], piece: usize) -> Vec<String> {
    let (mut log, mut lines) = (BuildLog::default(), Vec::new());
    let mut said = |said: Said| match said {
        Said::Line { of, text } => lines.push(format!("{}> {text}", of.unwrap_or_default())),
        Said::Aside { text } => lines.push(text),
        Said::Building { derivation } => lines.push(derivation),
        Said::Counted(counts) => lines.push(format!("{counts:?}")),
    };
    bytes.chunks(piece.max(1)).for_each(|piece| log.read(piece, &mut said));
    log.finish(&mut said);
    drop(log.failed());
    lines
}

pub(crate) fn lock(bytes: &[u8]) -> Option<Vec<u8>> {
    Lock::parse(bytes).ok()?.to_bytes().ok()
}
