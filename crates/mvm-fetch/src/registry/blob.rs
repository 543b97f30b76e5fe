//! The stream of a blob, taken up again where it broke off.

use super::image::{Part, Place};
use super::retry::Attempts;
use super::{Registry, RegistryError, RegistryImage};
use crate::source::ByteSource;
use crate::{FetchError, Notice};
use mvm_ref::Descriptor;
use reqwest::header::{ETAG, HeaderValue};
use std::io;
use std::sync::Arc;

/// After so many bytes all attempts may be taken anew: a long blob may break off more often than a short one.
const PROGRESS: u64 = 1 << 20;

/// The body of a blob's answer, or of several that follow each other.
pub(super) struct BlobStream {
    registry: Arc<Registry>,
    image: RegistryImage,
    /// The number of the place among the image's.
    at: usize,
    descriptor: Descriptor,
    /// Nothing between one that broke off and the next.
    part: Option<Part>,
    /// What the first answer called its bytes, if that holds for each of them.
    tag: Option<HeaderValue>,
    /// Bytes that were passed on.
    received: u64,
    attempts: Attempts,
    /// The value of `received` at which the attempts were last taken anew.
    mark: u64,
    piece: bytes::Bytes,
}

impl BlobStream {
    pub(super) fn open(
        registry: Arc<Registry>,
        image: RegistryImage,
        descriptor: Descriptor,
    ) -> Result<Self, RegistryError> {
        let ask = image.anywhere(async |place| {
            let mut attempts = place.attempts();
            Ok((place.open_part(&mut attempts, &descriptor, 0, None).await?, attempts))
        });
        let (at, (part, attempts)) = registry.wait(ask)?;
        let tag = part.answer.response.headers().get(ETAG).cloned();
        let tag = tag.filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        let piece = bytes::Bytes::new();
        let part = Some(part);
        Ok(Self { registry, image, at, descriptor, part, tag, received: 0, attempts, mark: 0, piece })
    }

    async fn advance(&mut self) -> Result<(), RegistryError> {
        let registry = Arc::clone(&self.registry);
        let http = registry.http();
        loop {
            let Some(part) = &mut self.part else { return Err(RegistryError::Cancelled) };
            let error = match http.chunk(&mut part.answer).await {
                Ok(Some(mut piece)) => {
                    let skipped = part.skip.min(piece.len() as u64);
                    part.skip -= skipped;
                    // Not more than the piece's length.
                    bytes::Buf::advance(&mut piece, skipped as usize);
                    if piece.is_empty() {
                        continue;
                    }
                    self.received += piece.len() as u64;
                    if self.received - self.mark >= PROGRESS {
                        (self.mark, self.attempts) = (self.received, http.attempts());
                    }
                    self.piece = piece;
                    return Ok(());
                }
                Ok(None) if self.received < self.descriptor.size => RegistryError::Transfer {
                    host: part.answer.host.clone(),
                    source: Box::new(io::Error::from(io::ErrorKind::UnexpectedEof)),
                },
                Ok(None) => {
                    self.piece = bytes::Bytes::new();
                    return Ok(());
                }
                Err(error) => error,
            };
            self.reopen(error).await?;
        }
    }

    /// Asks for the rest, in the same place or else in the next.
    async fn reopen(&mut self, mut error: RegistryError) -> Result<(), RegistryError> {
        let http = self.registry.http();
        // The connection is of no more use, and a server may take one at a time.
        self.part = None;
        while let Some(place) = self.image.places().get(self.at) {
            if let Err(error) = http.again(&mut self.attempts, error).await {
                place.passed_over(error)?;
                // What another place calls these bytes is not known.
                (self.at, self.tag) = (self.at + 1, None);
                self.attempts = self.image.places().get(self.at).map_or(http.attempts(), Place::attempts);
            }
            let Some(place) = self.image.places().get(self.at) else { break };
            let Descriptor { digest, size, .. } = self.descriptor;
            http.notice(Notice::Resume { digest, at: self.received, size });
            let (tag, descriptor) = (self.tag.as_ref(), &self.descriptor);
            match place.open_part(&mut self.attempts, descriptor, self.received, tag).await {
                Ok(part) => {
                    self.part = Some(part);
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
        // The last place gives its error back.
        Err(RegistryError::Cancelled)
    }
}

impl ByteSource for BlobStream {
    fn fill(&mut self) -> Result<&[u8], FetchError> {
        if self.piece.is_empty() {
            let registry = Arc::clone(&self.registry);
            registry.wait(self.advance())?;
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(self.piece.len());
        bytes::Buf::advance(&mut self.piece, amount);
    }
}
