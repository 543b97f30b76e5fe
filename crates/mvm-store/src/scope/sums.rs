//! `sums` of a segment: the SHA-256 of the files that decide what an image holds besides its blocks.
//!
//! The text is what `sha256sum tails leaves index` prints. A segment of an older version has none and counts as absent.

use crate::dir::{Dir, FileError};
use crate::error::StoreError;
use mvm_ref::Digest;
use std::io::{ErrorKind, Read as _, Write as _};

/// The name of the file.
pub(super) const SUMS: &str = "sums";

const SUMMED: [&str; 3] = ["tails", "leaves", "index"];

/// Hexadecimal digits, two spaces, the names and the ends of lines.
const LEN: u64 = 3 * (64 + 2 + 1) + 5 + 6 + 5;

/// Bytes that take longer to hash than a thread to start.
const THREAD: u64 = 1 << 20;

/// Writes the digests of a segment that has just been filled.
pub(super) fn write(dir: &Dir) -> Result<(), StoreError> {
    let text = written(&digests(dir)?);
    let done = dir.create_file(SUMS)?.write_all(text.as_bytes());
    Ok(done.map_err(|error| FileError::new("write", dir.join(SUMS), error))?)
}

/// Says whether a segment has digests.
pub(super) fn exist(dir: &Dir) -> Result<bool, FileError> {
    Ok(dir.file_len(SUMS)? == Some(LEN))
}

/// Compares the files of a segment with their digests; the first that differs is the one reported.
pub(super) fn check(dir: &Dir) -> Result<(), StoreError> {
    let fail = |error| FileError::new("read", dir.join(SUMS), error);
    let file = dir.open_file(SUMS)?.ok_or_else(|| fail(ErrorKind::NotFound.into()))?;
    let mut text = String::new();
    match file.take(LEN + 1).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidData => text.clear(),
        Err(error) => return Err(fail(error).into()),
    }
    let expected = parse(&text).ok_or_else(|| StoreError::SegmentSums { path: dir.join(SUMS) })?;
    for ((name, expected), got) in SUMMED.into_iter().zip(expected).zip(digests(dir)?) {
        if expected != got {
            return Err(StoreError::SegmentDigest { path: dir.join(name), expected, got });
        }
    }
    Ok(())
}

fn parse(text: &str) -> Option<[Digest; 3]> {
    let mut lines = text.lines();
    let mut next = |name: &str| {
        let hex = lines.next()?.strip_suffix(name)?.strip_suffix("  ")?;
        format!("sha256:{hex}").parse().ok()
    };
    let [tails, leaves, index] = SUMMED;
    let digests = [next(tails)?, next(leaves)?, next(index)?];
    (written(&digests) == text).then_some(digests)
}

fn written(digests: &[Digest; 3]) -> String {
    SUMMED.iter().zip(digests).map(|(name, digest)| format!("{}  {name}\n", digest.hex())).collect()
}

/// Hashes the files, in their order. Tails are by far the longest, and have a thread of their own where one pays.
fn digests(dir: &Dir) -> Result<[Digest; 3], FileError> {
    let digest = |name: &str| {
        let fail = |error| FileError::new("hash", dir.join(name), error);
        let file = dir.open_file(name)?.ok_or_else(|| fail(ErrorKind::NotFound.into()))?;
        Digest::of_reader(file).map_err(fail)
    };
    let [tails, leaves, index] = SUMMED;
    if dir.file_len(tails)?.is_some_and(|length| length < THREAD) {
        return Ok([digest(tails)?, digest(leaves)?, digest(index)?]);
    }
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| Ok::<_, FileError>((digest(leaves)?, digest(index)?)));
        let tails = digest(tails);
        let others = beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (leaves, index) = others?;
        Ok([tails?, leaves, index])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_taken_only_as_it_is_written() {
        let [one, two] = [b"1", b"2"].map(|bytes| Digest::of(bytes));
        let text = written(&[one, two, one]);
        assert_eq!(text, format!("{0}  tails\n{1}  leaves\n{0}  index\n", one.hex(), two.hex()));
        assert_eq!(text.len() as u64, LEN);
        assert_eq!(parse(&text), Some([one, two, one]));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            // Another digit is another digest; nothing else may differ.
            let parsed = String::from_utf8(bytes).ok().and_then(|text| parse(&text));
            assert!(parsed != Some([one, two, one]), "byte {at}");
        }
        for other in
            ["", &text[..text.len() - 1], &format!("{text}\n"), &text.to_uppercase(), &text.repeat(2)]
        {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }
}
