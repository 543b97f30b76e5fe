//! Store paths of a running VM, as Nix archives.

use super::dialogue::Incoming;
use crate::closures::NarSource;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::Cancel;
use mvm_ref::VmName;
use mvm_ref::nix::StorePath;
use mvm_wire::message::MAX_NARS;
use mvm_wire::{Direction, Request};
use std::io::{self, Read};

/// The store of a running VM.
pub(crate) struct VmStore<'e> {
    engine: &'e Engine,
    vm: VmName,
    cancel: Cancel,
}

impl<'e> VmStore<'e> {
    /// Returns the store of a VM, which is asked for nothing yet.
    pub(crate) fn new(engine: &'e Engine, vm: VmName, cancel: &Cancel) -> Self {
        Self { engine, vm, cancel: cancel.clone() }
    }
}

impl NarSource for VmStore<'_> {
    fn nars<'a>(&'a mut self, paths: &[StorePath]) -> Result<Box<dyn Read + 'a>, EngineError> {
        let names = paths.iter().map(|path| path.base_name().to_owned()).collect::<Vec<_>>();
        let mut batches: Vec<Vec<String>> = names.chunks(MAX_NARS).map(<[String]>::to_vec).collect();
        batches.reverse();
        let mut nars = Nars { store: self, batches, current: None };
        // What is not there is told before anything is made of it.
        nars.next()?;
        Ok(Box::new(nars))
    }
}

/// The archives of several requests, one after the other.
struct Nars<'a> {
    store: &'a VmStore<'a>,
    /// What is still to be asked for, the next one last.
    batches: Vec<Vec<String>>,
    current: Option<Incoming<'a>>,
}

impl Nars<'_> {
    fn next(&mut self) -> Result<(), EngineError> {
        self.current = None;
        if let Some(paths) = self.batches.pop() {
            let VmStore { engine, vm, cancel } = self.store;
            let mut dialogue = engine.dialogue(vm, cancel)?;
            let stream = dialogue.open(Direction::Receive)?;
            dialogue.ask(Request::Nar { paths, stream })?;
            self.current = Some(dialogue.reader(stream));
        }
        Ok(())
    }
}

impl Read for Nars<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(current) = &mut self.current {
            match current.read(into)? {
                0 if !into.is_empty() => self.next().map_err(io::Error::other)?,
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}
