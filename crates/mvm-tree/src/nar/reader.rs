//! The one pass over a NAR.

use super::NarSummary;
use super::error::{NarError, NarRefusal};
use super::input::{Fault, Input, unexpected};
use crate::policy::{Item, What};
use crate::{Attributes, Budget, Change, Escaped, Kind, LayerSink, Timestamp};
use std::io::BufRead;

/// Reads one NAR from `input` and hands what it holds to `sink`, as the node at `path`.
///
/// `path` is normalised and lies in directories that something else makes. Nothing is read beyond the NAR's end, so that another
/// one may follow. File data goes from the input's buffer to the sink without a copy, so that the buffer should be large. What is
/// taken is counted in `budget`. After an error the sink has got a part of the NAR.
pub fn read_nar<R: BufRead, S: LayerSink>(
    input: &mut R,
    path: &[u8],
    budget: &Budget,
    sink: &mut S,
) -> Result<NarSummary, NarError<S::Error>> {
    let mut reader = Reader {
        input: Input::new(input),
        sink,
        budget,
        summary: NarSummary::default(),
        metadata: 0,
        at: 0,
        path: path.to_vec(),
    };
    match reader.read() {
        Ok(()) => Ok(NarSummary { nar_bytes: reader.input.offset(), ..reader.summary }),
        Err(fault) => Err(reader.locate(fault)),
    }
}

struct Reader<'a, R, S> {
    input: Input<'a, R>,
    sink: &'a mut S,
    budget: &'a Budget,
    summary: NarSummary,
    /// Bytes of names and link targets.
    metadata: u64,
    /// Where the text begins that is being read.
    at: u64,
    /// The node that is being read.
    path: Vec<u8>,
}

/// A directory whose entries are being read.
struct Open {
    /// Length of its path.
    path: usize,
    /// The name of the last entry.
    last: Option<Vec<u8>>,
}

/// What a node turned out to be.
enum Node {
    Directory,
    Complete,
}

impl<R: BufRead, S: LayerSink> Reader<'_, R, S> {
    fn locate(&self, fault: Fault<S::Error>) -> NarError<S::Error> {
        let path = Escaped::new(&self.path);
        match fault {
            Fault::Read(source) => NarError::Read { offset: self.input.offset(), source },
            // An end is where the bytes end.
            Fault::Refused(source @ NarRefusal::Truncated { .. }) => {
                NarError::Refused { offset: self.input.offset(), path, source }
            }
            Fault::Refused(source) => NarError::Refused { offset: self.at, path, source },
            Fault::Store(source) => NarError::Store { offset: self.input.offset(), path, source },
        }
    }

    fn read(&mut self) -> Result<(), Fault<S::Error>> {
        self.expect("nix-archive-1")?;
        // Directories within directories are on the heap: how deep they go is the archive's choice.
        let mut open = Vec::new();
        if let Node::Directory = self.node()? {
            open.push(Open { path: self.path.len(), last: None });
        }
        while let Some(directory) = open.last_mut() {
            self.path.truncate(directory.path);
            match self.word("entry or )")?.as_slice() {
                b"entry" => {}
                b")" => {
                    open.pop();
                    // A directory within another one is the node of an entry.
                    if let Some(outer) = open.last() {
                        self.path.truncate(outer.path);
                        self.expect(")")?;
                    }
                    continue;
                }
                got => return Err(unexpected("entry or )", got)),
            }
            self.expect("(")?;
            self.expect("name")?;
            let name = self.name(directory.last.as_deref())?;
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
            self.budget.policy().check_path(self.path.len())?;
            directory.last = Some(name);
            self.expect("node")?;
            match self.node()? {
                Node::Directory => open.push(Open { path: self.path.len(), last: None }),
                Node::Complete => self.expect(")")?,
            }
        }
        Ok(())
    }

    /// Reads a node: all of a file or link with its closing parenthesis, of a directory what comes before its entries.
    fn node(&mut self) -> Result<Node, Fault<S::Error>> {
        self.budget.take_entry()?;
        self.summary.entries += 1;
        self.expect("(")?;
        self.expect("type")?;
        match self.word("regular, symlink or directory")?.as_slice() {
            b"regular" => self.file()?,
            b"symlink" => self.link()?,
            b"directory" => {
                self.put(0o555, Kind::Directory)?;
                return Ok(Node::Directory);
            }
            got => return Err(unexpected("regular, symlink or directory", got)),
        }
        self.expect(")")?;
        Ok(Node::Complete)
    }

    fn file(&mut self) -> Result<(), Fault<S::Error>> {
        let mut mode = 0o444;
        let mut word = self.word("executable or contents")?;
        if word == b"executable" {
            mode = 0o555;
            self.expect("")?;
            word = self.word("contents")?;
        }
        if word != b"contents" {
            return Err(unexpected("executable or contents", &word));
        }
        self.at = self.input.offset();
        let size = self.input.number()?;
        // Nothing that long is there; sums of lengths must not wrap.
        if size > i64::MAX as u64 {
            return Err(NarRefusal::Length { expected: "a file", got: size }.into());
        }
        let attributes = attributes(mode);
        self.budget.policy().check(Item::Node { attributes: &attributes, what: What::File })?;
        self.budget.take_file(size, size)?;
        self.summary.data_bytes += size;
        let Self { input, sink, .. } = self;
        sink.begin(size).map_err(Fault::Store)?;
        input.pieces(size, |piece| sink.data(piece).map_err(Fault::Store))?;
        input.padding(size)?;
        let content = sink.end().map_err(Fault::Store)?;
        self.put(mode, Kind::Regular(content))
    }

    fn link(&mut self) -> Result<(), Fault<S::Error>> {
        self.expect("target")?;
        self.at = self.input.offset();
        let limit = self.budget.policy().path_bytes as u64;
        let target =
            self.input.text(limit, |got| NarRefusal::Length { expected: "a link's target", got }.into())?;
        if target.is_empty() || target.contains(&0) {
            return Err(NarRefusal::Target { target: Escaped::new(&target) }.into());
        }
        self.count(target.len())?;
        self.put(0o777, Kind::Symlink(target.into()))
    }

    /// Reads the name of an entry that follows one named `last`.
    fn name(&mut self, last: Option<&[u8]>) -> Result<Vec<u8>, Fault<S::Error>> {
        self.at = self.input.offset();
        let limit = self.budget.policy().name_bytes as u64;
        let name = self.input.text(limit, |got| NarRefusal::Length { expected: "a name", got }.into())?;
        let is_name =
            !matches!(name.as_slice(), b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0);
        if !is_name {
            return Err(NarRefusal::Name { name: Escaped::new(&name) }.into());
        }
        self.count(name.len())?;
        match last.map(|last| (last, last.cmp(&name))) {
            Some((_, std::cmp::Ordering::Equal)) => {
                Err(NarRefusal::Twice { name: Escaped::new(&name) }.into())
            }
            Some((last, std::cmp::Ordering::Greater)) => {
                let (name, before) = (Escaped::new(&name), Escaped::new(last));
                Err(NarRefusal::Order { name, before }.into())
            }
            _ => Ok(name),
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Fault<S::Error>> {
        self.metadata += bytes as u64;
        Ok(self.budget.policy().check_metadata(self.metadata)?)
    }

    fn put(&mut self, mode: u16, kind: Kind) -> Result<(), Fault<S::Error>> {
        let change = Change::Put { path: self.path.as_slice().into(), attributes: attributes(mode), kind };
        self.budget.policy().check(Item::from(&change))?;
        self.sink.change(change).map_err(Fault::Store)
    }

    fn word(&mut self, expected: &'static str) -> Result<Vec<u8>, Fault<S::Error>> {
        self.at = self.input.offset();
        self.input.word(expected)
    }

    fn expect(&mut self, word: &'static str) -> Result<(), Fault<S::Error>> {
        self.at = self.input.offset();
        self.input.expect(word)
    }
}

/// Returns what everything in a store has, but for its mode.
fn attributes(mode: u16) -> Attributes {
    Attributes { mode, mtime: Timestamp { secs: 1, nanos: 0 }, ..Attributes::default() }
}
