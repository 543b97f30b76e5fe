use super::*;
use crate::InflateError;
use crate::inflate::tests::{gzip, zstd};
use mvm_ref::{Digest, LayerCompression, MediaType};
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of given pieces that then ends, or fails.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    fails: bool,
}

impl ByteSource for Pieces {
    fn fill(&mut self) -> Result<&[u8], FetchError> {
        if self.at == self.bytes.len() && self.fails {
            return Err(FetchError::Abandoned);
        }
        Ok(&self.bytes[self.at..self.bytes.len().min(self.at + 4099)])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the body's own")]
    Own,
}

struct Case {
    compression: LayerCompression,
    stored: Vec<u8>,
    expected: Expected,
    fails: bool,
    cancel: CancelToken,
}

impl Case {
    fn new(compression: LayerCompression, tar: &[u8]) -> Self {
        let stored = match compression {
            LayerCompression::None => tar.to_vec(),
            LayerCompression::Gzip => gzip(tar),
            LayerCompression::Zstd => zstd(tar),
        };
        let expected =
            Expected { digest: Digest::of(&stored), size: stored.len() as u64, diff_id: Digest::of(tar) };
        Self { compression, stored, expected, fails: false, cancel: CancelToken::default() }
    }

    fn read<T>(
        &self,
        body: impl FnOnce(&mut dyn BufRead) -> Result<T, BodyError>,
    ) -> (Result<(T, VerifiedLayer), BodyError>, u64) {
        let descriptor = Descriptor {
            media_type: MediaType::OciLayer(self.compression),
            digest: self.expected.digest,
            size: self.expected.size,
            platform: None,
            annotations: Default::default(),
        };
        let source = Pieces { bytes: self.stored.clone(), at: 0, fails: self.fails };
        let received = AtomicU64::new(0);
        let progress = |bytes| received.store(bytes, Ordering::Relaxed);
        let open = move || Ok(Box::new(source) as Box<dyn ByteSource>);
        let result =
            read(&descriptor, self.expected, open, ExpansionLimit::default(), &self.cancel, &progress, body);
        (result, received.into_inner())
    }

    fn read_all(&self) -> Result<(Vec<u8>, VerifiedLayer), BodyError> {
        let (result, _) = self.read(|reader| {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        result
    }
}

fn tar() -> Vec<u8> {
    (0..3_000_000_u64).map(|i| ((i * i) >> 9) as u8 & 0x1f).collect()
}

#[test]
fn layers_stream_and_are_verified() {
    let tar = tar();
    for compression in [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd] {
        let case = Case::new(compression, &tar);
        let (bytes, layer) = case.read_all().unwrap();
        assert!(bytes == tar);
        assert_eq!((layer.digest(), layer.diff_id()), (case.expected.digest, case.expected.diff_id));
        assert_eq!((layer.size(), layer.tar_size()), (case.expected.size, tar.len() as u64));
    }
    let empty = Case::new(LayerCompression::Gzip, b"");
    assert_eq!(empty.read_all().unwrap().1.tar_size(), 0);
}

#[test]
fn bytes_that_yield_nothing_are_hashed_too() {
    let mut case = Case::new(LayerCompression::Gzip, &tar());
    case.stored.extend(vec![0; 3 * BUFFER]);
    case.expected.size = case.stored.len() as u64;
    let error = case.read_all().map(|(_, layer)| layer);
    let Err(BodyError::Fetch(FetchError::Verify(error))) = error else { panic!("{error:?}") };
    let (expected, got) = (case.expected.digest, Digest::of(&case.stored));
    assert_eq!(error, verify::VerifyError::Digest { expected, got });
    case.expected.digest = got;
    assert_eq!(case.read_all().unwrap().1.size(), case.stored.len() as u64);
}

#[test]
fn a_body_that_stops_early_still_gets_the_whole_layer_verified() {
    let mut case = Case::new(LayerCompression::Gzip, &tar());
    let (result, received) = case.read(|reader| Ok(reader.fill_buf()?[0]));
    assert_eq!(result.unwrap().1.tar_size(), 3_000_000);
    assert_eq!(received, case.expected.size);
    case.expected.diff_id = Digest::of(b"another");
    let (result, _) = case.read(|_| Ok(()));
    assert!(matches!(result, Err(BodyError::Fetch(FetchError::Verify(verify::VerifyError::DiffId { .. })))));
}

#[test]
fn every_difference_is_an_error() {
    // One that ends before there is a second thread, and one after.
    for length in [200_000, 3_000_000] {
        every_difference(&tar()[..length]);
    }
}

fn every_difference(tar: &[u8]) {
    let change = |change: fn(&mut Case)| {
        let mut case = Case::new(LayerCompression::Gzip, tar);
        change(&mut case);
        match case.read_all() {
            Err(BodyError::Fetch(error)) => error,
            other => panic!("expected an error of the stream, got {:?}", other.map(|(_, layer)| layer)),
        }
    };
    let error = change(|case| case.expected.digest = Digest::of(b""));
    assert!(matches!(error, FetchError::Verify(verify::VerifyError::Digest { .. })), "{error:?}");
    let error = change(|case| case.expected.size -= 1);
    assert!(matches!(error, FetchError::TooLong { .. }), "{error:?}");
    let error = change(|case| case.expected.size += 1);
    assert!(matches!(error, FetchError::Short { .. }), "{error:?}");
    let error = change(|case| {
        case.stored.truncate(1000);
        case.expected.size = 1000;
    });
    assert!(matches!(error, FetchError::Inflate { source: InflateError::Truncated { .. }, .. }), "{error:?}");
    let error = change(|case| {
        let middle = case.stored.len() / 2;
        case.stored[middle] ^= 1;
    });
    assert!(matches!(error, FetchError::Inflate { .. } | FetchError::Verify(_)), "{error:?}");
    let error = change(|case| case.fails = true);
    assert!(matches!(error, FetchError::Abandoned), "{error:?}");
    let error = change(|case| case.cancel.cancel());
    assert!(matches!(error, FetchError::Cancelled), "{error:?}");
}

#[test]
fn how_a_layer_is_compressed_is_seen_from_its_bytes() {
    for media in [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd] {
        let mut case = Case::new(LayerCompression::Gzip, &tar());
        case.compression = media;
        assert_eq!(case.read_all().unwrap().1.tar_size(), 3_000_000, "{media}");
    }
}

#[test]
fn the_bodys_own_error_wins_and_ends_the_stream() {
    // More than all buffers hold.
    let mut case = Case::new(LayerCompression::Gzip, &tar().repeat(2 * BUFFERS));
    case.expected.diff_id = Digest::of(b"another");
    let (result, received) = case.read(|reader| -> Result<(), _> {
        reader.fill_buf()?;
        Err(BodyError::Own)
    });
    assert!(matches!(result, Err(BodyError::Own)));
    assert!(received < case.expected.size, "{received} of {} bytes were read", case.expected.size);
}

#[test]
fn what_the_body_makes_of_a_broken_stream_is_not_what_the_user_sees() {
    let mut case = Case::new(LayerCompression::Gzip, &tar());
    case.fails = true;
    let (result, _) = case.read(|reader| -> Result<(), _> {
        while let Ok(length @ 1..) = reader.fill_buf().map(<[u8]>::len) {
            reader.consume(length);
        }
        assert!(reader.fill_buf().is_err());
        Err(BodyError::Own)
    });
    assert!(matches!(result, Err(BodyError::Fetch(FetchError::Abandoned))));
    // Nor does a body that takes the break for the end make the layer whole.
    let (result, _) = case.read(|_| Ok(()));
    assert!(matches!(result, Err(BodyError::Fetch(FetchError::Abandoned))));
}
