//! The one pass over a layer's archive.

use std::io::BufRead;

use super::error::{ReadError, Refusal, SparseFault};
use super::header::{BLOCK, Header};
use super::input::{Fault, Input};
use super::path::{Meaning, check_bytes, meaning, normalise};
use super::pax::Extended;
use super::sparse::Sparse;
use super::{LayerSummary, device};
use crate::policy::{Item, What};
use crate::{Attributes, Budget, Change, Content, Device, Escaped, Kind, LayerSink, Timestamp, UnpackPolicy};

/// Largest extended header.
const MAX_EXTENDED: u64 = 1 << 20;

/// Reads a layer from `input` to its end and hands what it holds to `sink`.
///
/// File data goes from the input's buffer to the sink without a copy, so that the buffer should be large. After
/// the mark of the archive's end the rest of the input is read too, that what hashes the input sees all of it.
///
/// What the layer takes is counted in `budget`, which all layers of an image share. After an error the sink has got a part
/// of the layer.
pub fn read_layer<R: BufRead, S: LayerSink>(
    input: &mut R,
    budget: &Budget,
    sink: &mut S,
) -> Result<LayerSummary, ReadError<S::Error>> {
    let mut reader = Reader {
        input: Input::new(input, budget.policy(), sink),
        budget,
        policy: budget.policy(),
        summary: LayerSummary::default(),
        metadata: 0,
        start: 0,
        path: Vec::new(),
    };
    match reader.read() {
        Ok(()) => Ok(LayerSummary { archive_bytes: reader.input.offset(), ..reader.summary }),
        Err(fault) => Err(reader.locate(fault)),
    }
}

struct Reader<'a, R, S> {
    input: Input<'a, R, S>,
    budget: &'a Budget,
    policy: &'a UnpackPolicy,
    summary: LayerSummary,
    /// Bytes of paths, link targets and extended attributes.
    metadata: u64,
    /// Where the entry starts.
    start: u64,
    /// The entry's path as it stands in the archive.
    path: Vec<u8>,
}

/// Extended headers that wait for their entry.
#[derive(Default)]
struct Pending {
    pax: Option<Extended>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }
}

/// An entry's headers, put together.
struct Entry {
    flag: u8,
    link: Vec<u8>,
    /// Bytes that the archive has for the entry, without padding.
    archived: u64,
    attributes: Attributes,
}

impl<R: BufRead, S: LayerSink> Reader<'_, R, S> {
    fn locate(&self, fault: Fault<S::Error>) -> ReadError<S::Error> {
        let (index, offset) = (self.summary.entries, self.start);
        let path = || Escaped::new(&self.path);
        match fault {
            Fault::Read(source) => ReadError::Read { offset: self.input.offset(), source },
            Fault::Refused(source) => ReadError::Refused { index, offset, path: path(), source },
            Fault::Store(source) => ReadError::Store { index, offset, path: path(), source },
        }
    }

    fn read(&mut self) -> Result<(), Fault<S::Error>> {
        let mut pending = Pending::default();
        loop {
            if pending.is_empty() {
                self.start = self.input.offset();
                self.path.clear();
            }
            let block = self.input.next_block()?;
            let block = match block {
                Some(block) if block == [0; BLOCK] => None,
                Some(block) => Some(block),
                None => return self.end(&pending),
            };
            let Some(block) = block else {
                self.end(&pending)?;
                // An archive may end after the first of the two blocks.
                if self.input.next_block()?.is_some_and(|second| second != [0; BLOCK]) {
                    return Err(Refusal::LoneZeroBlock.into());
                }
                let marked = self.input.offset();
                self.input.drain()?;
                self.summary.trailing_bytes = self.input.offset() - marked;
                return Ok(());
            };
            let header = Header::new(block)?;
            match header.type_flag() {
                b'x' | b'X' | b'g' | b'L' | b'K' => self.extended(&header, &mut pending)?,
                _ => {
                    self.budget.take_entry()?;
                    self.entry(&header, std::mem::take(&mut pending))?;
                    self.summary.entries += 1;
                }
            }
        }
    }

    fn end(&self, pending: &Pending) -> Result<(), Fault<S::Error>> {
        if pending.is_empty() { Ok(()) } else { Err(Refusal::HeaderDangling.into()) }
    }

    /// Reads an extended header.
    fn extended(&mut self, header: &Header, pending: &mut Pending) -> Result<(), Fault<S::Error>> {
        let flag = char::from(header.type_flag());
        let got = header.size()?;
        if got > MAX_EXTENDED {
            return Err(Refusal::HeaderLong { flag, got, limit: MAX_EXTENDED }.into());
        }
        let mut payload = self.input.bytes(got)?;
        self.skip_padding(got)?;
        let is_repeated = match flag {
            'g' => {
                // Global headers count as entries, or an archive of nothing else would have no bound.
                self.budget.take_entry()?;
                // Container engines take nothing from them; they must be well-formed all the same.
                Extended::default().read(&payload, true)?;
                self.summary.entries += 1;
                false
            }
            'x' | 'X' => {
                let mut extended = Extended::default();
                extended.read(&payload, false)?;
                self.path = extended.path.clone().unwrap_or_default();
                pending.pax.replace(extended).is_some()
            }
            'L' => {
                strip_nul("path", &mut payload)?;
                self.path.clone_from(&payload);
                pending.name.replace(payload).is_some()
            }
            _ => {
                strip_nul("link target", &mut payload)?;
                pending.link.replace(payload).is_some()
            }
        };
        if is_repeated { Err(Refusal::HeaderRepeated { flag }.into()) } else { Ok(()) }
    }

    /// Reads an entry after its headers.
    fn entry(&mut self, header: &Header, pending: Pending) -> Result<(), Fault<S::Error>> {
        let mut extended = pending.pax.unwrap_or_default();
        let sparse_name = extended.sparse.name().map(<[u8]>::to_vec);
        let pax_path = sparse_name.or(extended.path.take());
        self.path = one_name(pax_path, pending.name)?.unwrap_or_else(|| header.name());
        let link = one_name(extended.linkpath.take(), pending.link)?;
        let entry = Entry {
            flag: type_flag(header.type_flag(), &self.path),
            link: link.unwrap_or_else(|| header.link().to_vec()),
            archived: match extended.size {
                Some(size) => size,
                None => header.size()?,
            },
            attributes: attributes(header, &mut extended)?,
        };
        self.summary.ignored_xattrs += extended.ignored_xattrs;
        let path = normalise("path", &self.path, self.policy)?;
        let xattrs: usize = entry.attributes.xattrs.iter().map(|x| x.name.len() + x.value.len()).sum();
        let name = path.rsplit(|b| *b == b'/').next().map_or(0, <[u8]>::len);
        self.metadata += (name + entry.link.len() + xattrs) as u64;
        self.policy.check_metadata(self.metadata)?;

        let sparse = self.sparse(header, &entry, &extended)?;
        match meaning(&path)? {
            Meaning::Entry => self.node(header, entry, path, extended, sparse),
            Meaning::Whiteout(path) => self.whiteout(&entry, Change::Whiteout { path }),
            Meaning::Opaque(path) => self.whiteout(&entry, Change::Opaque { path }),
            Meaning::Metadata => self.skip_data(&entry),
        }
    }

    /// Reads the map of an old GNU sparse file, which stands before the entry's data.
    fn sparse(
        &mut self,
        header: &Header,
        entry: &Entry,
        extended: &Extended,
    ) -> Result<Option<Sparse>, Fault<S::Error>> {
        if extended.sparse.is_present() && entry.flag != b'0' {
            return Err(SparseFault::Kind.into());
        }
        match entry.flag {
            b'S' => Sparse::old_gnu(header, entry.archived, &mut self.input).map(Some),
            _ => Ok(None),
        }
    }

    fn whiteout(&mut self, entry: &Entry, change: Change) -> Result<(), Fault<S::Error>> {
        self.policy.check(Item::from(&change))?;
        self.skip_data(entry)?;
        self.summary.whiteouts += 1;
        self.change(change)
    }

    /// Reads an entry that makes a node or a link.
    fn node(
        &mut self,
        header: &Header,
        mut entry: Entry,
        path: Box<[u8]>,
        extended: Extended,
        sparse: Option<Sparse>,
    ) -> Result<(), Fault<S::Error>> {
        if path.is_empty() && entry.flag != b'5' {
            return Err(Refusal::Root.into());
        }
        let device = |is_block| {
            let number = Device { major: header.major()?, minor: header.minor()? };
            device::check(is_block, number).map(|()| number)
        };
        let kind = match entry.flag {
            b'0' | b'S' => {
                let sparse = match sparse {
                    None if extended.sparse.is_present() => {
                        Some(extended.sparse.file(entry.archived, &mut self.input)?)
                    }
                    sparse => sparse,
                };
                // Before its data are taken.
                self.policy.check(Item::Node { attributes: &entry.attributes, what: What::File })?;
                Kind::Regular(self.file(entry.archived, sparse)?)
            }
            b'1' => {
                let target = normalise("link target", &entry.link, self.policy)?;
                if target.is_empty() {
                    return Err(Refusal::LinkTarget.into());
                }
                let change = Change::Link { path, target };
                self.policy.check(Item::from(&change))?;
                return self.change(change);
            }
            b'2' => {
                check_bytes("link target", &entry.link, self.policy)?;
                if entry.link.is_empty() {
                    return Err(Refusal::LinkTarget.into());
                }
                // Linux gives all links this mode, whatever the writer's system says.
                entry.attributes.mode = 0o777;
                Kind::Symlink(entry.link.into())
            }
            b'3' => Kind::CharDevice(device(false)?),
            b'4' => Kind::BlockDevice(device(true)?),
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => return Err(Refusal::TypeFlag { flag }.into()),
        };
        let change = Change::Put { path, attributes: entry.attributes, kind };
        self.policy.check(Item::from(&change))?;
        self.change(change)
    }

    /// Hands a file's data to the sink.
    fn file(&mut self, archived: u64, sparse: Option<Sparse>) -> Result<Content, Fault<S::Error>> {
        let sparse = sparse.unwrap_or_else(|| Sparse::dense(archived));
        self.summary.data_bytes = self.summary.data_bytes.saturating_add(sparse.stored);
        self.summary.apparent_bytes = self.summary.apparent_bytes.saturating_add(sparse.size);
        self.budget.take_file(sparse.stored, sparse.size)?;

        self.input.sink().begin(sparse.size).map_err(Fault::Store)?;
        let mut at = 0;
        for (offset, len) in sparse.regions {
            self.hole(offset - at)?;
            self.input.data(len)?;
            at = offset + len;
        }
        self.hole(sparse.size - at)?;
        self.skip_padding(archived)?;
        self.input.sink().end().map_err(Fault::Store)
    }

    fn hole(&mut self, len: u64) -> Result<(), Fault<S::Error>> {
        if len > 0 {
            self.input.sink().hole(len).map_err(Fault::Store)?;
        }
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), Fault<S::Error>> {
        self.input.sink().change(change).map_err(Fault::Store)
    }

    /// Passes over the data of an entry that makes no node.
    fn skip_data(&mut self, entry: &Entry) -> Result<(), Fault<S::Error>> {
        match entry.flag {
            b'0' | b'S' => {
                self.input.skip(entry.archived)?;
                self.skip_padding(entry.archived)
            }
            b'1'..=b'6' => Ok(()),
            flag => Err(Refusal::TypeFlag { flag }.into()),
        }
    }

    /// Passes over what fills the last block, which may be missing at the end of the archive.
    fn skip_padding(&mut self, len: u64) -> Result<(), Fault<S::Error>> {
        self.input.skip_at_most(len.next_multiple_of(BLOCK as u64) - len)
    }
}

/// Returns the type that an entry has: other flags for regular files become `0`; before ustar a directory was
/// a file whose name ends with a slash.
fn type_flag(flag: u8, name: &[u8]) -> u8 {
    match flag {
        0 if name.ends_with(b"/") => b'5',
        0 | b'7' => b'0',
        flag => flag,
    }
}

fn attributes(header: &Header, extended: &mut Extended) -> Result<Attributes, Refusal> {
    Ok(Attributes {
        mode: header.mode()?,
        uid: match extended.uid {
            Some(uid) => uid,
            None => header.uid()?,
        },
        gid: match extended.gid {
            Some(gid) => gid,
            None => header.gid()?,
        },
        mtime: match extended.mtime {
            Some(mtime) => mtime,
            None => Timestamp { secs: header.mtime()?, nanos: 0 },
        },
        xattrs: std::mem::take(&mut extended.xattrs).into(),
    })
}

/// Returns the name that PAX or GNU extended headers give. Readers disagree on which of two counts.
fn one_name(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, Refusal> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => {
            Err(Refusal::NamesDiffer { pax: Escaped::new(&pax), gnu: Escaped::new(&gnu) })
        }
        (pax, gnu) => Ok(pax.or(gnu)),
    }
}

/// Removes the NULs that end a GNU long name. What follows a NUL is refused later, as part of the name.
fn strip_nul(what: &'static str, payload: &mut Vec<u8>) -> Result<(), Refusal> {
    while payload.last() == Some(&0) {
        payload.pop();
    }
    if payload.is_empty() {
        return Err(Refusal::Nul { what, value: Escaped::new(payload) });
    }
    Ok(())
}
