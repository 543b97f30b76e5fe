//! A VM's directory: `<root>/vms/NAME`, holding all that is kept about it.

mod create;
mod generations;

use super::process::ProcessIdentity;
use super::record::{Phase, Record, State};
use crate::audit_log::{AuditError, AuditLog, Fate, Note};
use crate::journal::{EventLog, Happening};
use mvm_plan::audit::{Event, Outcome};
use mvm_ref::{NameError, VmName};
use mvm_store::ProcessError;
use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::process::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const RECORD: &str = "vm.json";
const STATE: &str = "state.json";
const CONTROL: &str = "control.sock";
/// The signed plan.
pub const PLAN: &str = "plan.dsse.json";
/// The initramfs with the guest document.
pub const INITRD: &str = "initrd.cpio";
/// The writable disk under the root's overlay.
pub const SCRATCH: &str = "scratch.img";
/// The directory in which the network's helper makes its socket; it is there for a moment only.
pub const NETWORK: &str = "network";
/// The guest's console, bounded.
pub const CONSOLE: &str = "console.log";
/// What the supervisor itself had to say.
pub const SUPERVISOR_LOG: &str = "supervisor.log";

/// All VMs of one store.
#[derive(Clone, Debug)]
pub struct VmRegistry {
    root: PathBuf,
    audit: AuditLog,
}

/// One VM's directory.
#[derive(Clone, Debug)]
pub struct VmDirectory {
    name: VmName,
    path: PathBuf,
    /// Keeps the directory the same one under another name.
    held: Option<Arc<File>>,
    /// Where the end of a VM goes whose supervisor can't tell of it; none for the supervisor itself.
    audit: Option<AuditLog>,
}

/// Says what failed on a VM's directory.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// No VM has that name.
    #[error("no VM is named {0}")]
    NotFound(VmName),
    /// A VM has that name already.
    #[error("a VM named {0} exists")]
    NameTaken(VmName),
    /// The VM runs, and the act needs it stopped.
    #[error("VM {0} is running")]
    Running(VmName),
    /// The VM doesn't run, and the act needs it to.
    #[error("VM {name} is not running (it is {phase})")]
    NotRunning {
        /// The VM.
        name: VmName,
        /// How far it came.
        phase: Phase,
    },
    /// A file of the VM could not be read or written.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of the VM holds something else than mvm writes.
    #[error("{} is not a valid record", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The audit log can't tell of the VM's end.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The kernel did not say which process this is.
    #[error("identify this process")]
    Process(#[from] ProcessError),
    /// An entry among the VMs has a name that no VM can have.
    #[error("{} is not a VM's directory", path.display())]
    Stray {
        /// The entry.
        path: PathBuf,
        /// Why it can't be one.
        source: NameError,
    },
}

pub use create::NEW;

/// What the name of a directory begins with whose VM was removed; no VM has such a name.
pub const GONE: &str = ".gone-";

impl VmRegistry {
    /// Names the directory below which VMs live; it is made when the first VM is.
    pub fn new(store_root: &Path) -> Self {
        Self { root: store_root.join("vms"), audit: AuditLog::new(store_root) }
    }

    /// Finds a VM by its name.
    pub fn get(&self, name: &VmName) -> Result<VmDirectory, VmError> {
        let directory = self.at(name);
        if directory.path.join(RECORD).exists() {
            Ok(directory)
        } else {
            Err(VmError::NotFound(name.clone()))
        }
    }

    /// Returns all VMs with a record, sorted by name.
    pub fn list(&self) -> Result<Vec<VmDirectory>, VmError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("read", &self.root)(error)),
        };
        let mut vms = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_error("read", &self.root))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(GONE) {
                remove_all(&path)?;
                continue;
            }
            if let Some(maker) = name.strip_prefix(NEW) {
                create::remove_if_abandoned(maker, &path)?;
                continue;
            }
            let name: VmName =
                name.parse().map_err(|source| VmError::Stray { path: path.clone(), source })?;
            if path.join(RECORD).exists() {
                vms.push(self.at(&name));
            } else {
                remove_if_abandoned(&self.at(&name))?;
            }
        }
        vms.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(vms)
    }

    /// Fails if a VM has that name.
    pub fn check_free(&self, name: &VmName) -> Result<(), VmError> {
        if self.at(name).path.exists() { Err(VmError::NameTaken(name.clone())) } else { Ok(()) }
    }

    /// Gives a VM another name, in one step.
    pub fn rename(&self, vm: &VmDirectory, to: &VmName) -> Result<(), VmError> {
        let _turn = vm.turn()?;
        let target = self.at(to).path;
        match rustix::fs::renameat_with(CWD, &vm.path, CWD, &target, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => Err(VmError::NameTaken(to.clone())),
            renamed => renamed.map_err(|error| io_error("rename", &vm.path)(error.into())),
        }
    }

    fn at(&self, name: &VmName) -> VmDirectory {
        let path = self.root.join(name.as_str());
        VmDirectory { name: name.clone(), path, held: None, audit: Some(self.audit.clone()) }
    }
}

/// Removes a file that need not be there.
fn remove_all_of(path: &Path) -> Result<(), VmError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a directory that nobody finds any more. Another process may be at it too.
fn remove_all(path: &Path) -> Result<(), VmError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes what a creator left that died between making the directory and writing the record.
fn remove_if_abandoned(directory: &VmDirectory) -> Result<(), VmError> {
    let abandoned = match directory.stored_state() {
        Ok(state) => !state.supervisor.alive(),
        // Another process may be between its mkdir and its first rename: leave a young directory alone.
        Err(_) => fs::metadata(&directory.path)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|time| time.elapsed().ok())
            .is_some_and(|age| age.as_secs() > 10),
    };
    if abandoned { directory.remove_files() } else { Ok(()) }
}

impl VmDirectory {
    /// Opens a directory by its path, as a supervisor is given it.
    pub fn open(path: &Path) -> Result<Self, VmError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.parse().map_err(|source| VmError::Stray { path: path.to_owned(), source })?;
        Ok(Self { name, path: path.to_owned(), held: None, audit: None })
    }

    /// Returns the same directory, found by a descriptor: whoever renames it changes nothing for this process.
    pub fn held(&self) -> Result<Self, VmError> {
        let file = File::open(&self.path).map_err(io_error("open", &self.path))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Self { path, held: Some(Arc::new(file)), ..self.clone() })
    }

    /// Returns the directory under the name that it has now.
    pub fn settled(&self) -> Result<Self, VmError> {
        if self.held.is_none() {
            return Ok(self.clone());
        }
        let path = fs::read_link(&self.path).map_err(io_error("find", &self.path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.parse().map_err(|source| VmError::Stray { path: path.clone(), source })?;
        Ok(Self { name, path, held: None, audit: self.audit.clone() })
    }

    /// Returns the VM's name: the one that it has now, unless it is gone.
    pub fn name(&self) -> VmName {
        self.settled().map_or_else(|_| self.name.clone(), |settled| settled.name)
    }

    /// Returns where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads what the VM is. Its name is that of the directory, whatever it was when the record was written.
    pub fn record(&self) -> Result<Record, VmError> {
        Ok(Record { name: self.name(), ..self.read_json(RECORD)? })
    }

    /// Reads how the VM fares and corrects it when the process that answered for it is gone.
    ///
    /// A crash of the supervisor leaves a state that says `running`; the hypervisor dies with its supervisor,
    /// and is killed here if it did not. Its end goes on record then, once.
    pub fn state(&self) -> Result<State, VmError> {
        let state = self.stored_state()?;
        if state.ended() || state.supervisor.alive() {
            return Ok(state);
        }
        let _turn = self.turn()?;
        // It may have written its last state between the two looks, or somebody else has done this.
        let mut state = self.stored_state()?;
        if state.ended() || state.supervisor.alive() {
            return Ok(state);
        }
        if let Some(hypervisor) = &state.hypervisor {
            hypervisor.signal(Signal::KILL).map_err(io_error("end the hypervisor of", &self.path))?;
        }
        let message = match state.supervisor.of_this_boot() {
            true => "its supervisor died",
            false => "the host was restarted while it ran",
        };
        self.put_end_on_record(&state, message)?;
        state.phase = Phase::Failed;
        state.message = Some(message.to_owned());
        state.finished_at = Some(crate::clock::unix_seconds());
        self.write_end(&state)?;
        Ok(state)
    }

    /// Writes down how the VM ended and removes what only a running one needs, before anybody can launch it again.
    pub fn end(&self, state: &State) -> Result<(), VmError> {
        self.turn().and_then(|_turn| self.write_end(state))
    }

    /// Says whether the VM has ended, be it without a word. Changes nothing.
    pub fn is_over(&self) -> Result<bool, VmError> {
        let state = self.stored_state()?;
        Ok(state.ended() || !state.supervisor.alive())
    }

    /// Waits until no other process ends, repairs or takes this VM.
    fn turn(&self) -> Result<File, VmError> {
        let directory = File::open(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => VmError::NotFound(self.name.clone()),
            _ => io_error("open", &self.path)(source),
        })?;
        loop {
            match rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io_error("lock", &self.path)(error.into())),
                Ok(()) => return Ok(directory),
            }
        }
    }

    /// Has the audit log tell of the end of a launch that it tells of.
    fn put_end_on_record(&self, state: &State, message: &str) -> Result<(), VmError> {
        let (Some(audit), Some(nonce)) = (&self.audit, state.nonce) else { return Ok(()) };
        if audit.fate(&nonce)? != Fate::Launched {
            return Ok(());
        }
        let record = self.record()?;
        let stop = Event::Stop {
            vm: record.name,
            plan: record.plan,
            nonce,
            outcome: Outcome::Killed,
            exit_code: None,
        };
        if let Some(root) = self.path.parent().and_then(Path::parent) {
            let died = Happening::Died { message: message.to_owned() };
            // Like any event: that it can't be written keeps nobody from going on.
            EventLog::new(root).tell(&self.name, died);
        }
        let note = Note::from(stop).with("error", message);
        Ok(audit.append_notes(&record.scope, vec![note])?)
    }

    /// Takes a VM that has ended for another launch; the caller answers for it until a supervisor does.
    pub fn begin_again(&self) -> Result<(), VmError> {
        // What a crash left is put right first.
        self.state()?;
        let _turn = self.turn()?;
        if !self.stored_state()?.ended() {
            return Err(VmError::Running(self.name.clone()));
        }
        self.write_state(&State::created(ProcessIdentity::current()?))
    }

    /// Replaces the record as a whole.
    pub fn write_record(&self, record: &Record) -> Result<(), VmError> {
        self.write_json(RECORD, record)
    }

    /// Replaces the state as a whole.
    pub fn write_state(&self, state: &State) -> Result<(), VmError> {
        self.write_json(STATE, state)
    }

    /// Replaces the state by that of a VM whose hypervisor is gone, and removes the files that only that needed and what a crash
    /// left of its network; of a VM that has ended the socket, too. Where there is no room for the state, the files make it.
    pub fn write_end(&self, state: &State) -> Result<(), VmError> {
        let written = self.write_state(state);
        let network = self.file(NETWORK);
        mvm_launch::network::clear(&network).map_err(io_error("remove", &network))?;
        for name in [SCRATCH, INITRD] {
            remove_all_of(&self.file(name))?;
        }
        written.or_else(|_| self.write_state(state))?;
        if state.ended() { self.remove_socket() } else { Ok(()) }
    }

    /// Removes the socket on which a supervisor takes commands.
    pub fn remove_socket(&self) -> Result<(), VmError> {
        remove_all_of(&self.file(CONTROL))
    }

    /// Removes a VM that has ended.
    pub fn remove(&self) -> Result<(), VmError> {
        if !self.state()?.ended() {
            return Err(VmError::Running(self.name.clone()));
        }
        self.remove_files()
    }

    /// Removes the directory whatever its state; for the process that answers for the VM.
    pub fn remove_files(&self) -> Result<(), VmError> {
        let Self { path, name, .. } = &match self.settled() {
            // Somebody has removed it already.
            Err(VmError::Stray { .. }) => return Ok(()),
            settled => settled?,
        };
        // Without its name the VM is gone for everyone, whatever remains.
        let gone = path.with_file_name(format!("{GONE}{name}.{}", std::process::id()));
        remove_all(&gone)?;
        match fs::rename(path, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", path)(error)),
            Ok(()) => remove_all(&gone),
        }
    }

    /// Connects to the VM's supervisor.
    pub fn connect(&self) -> Result<UnixStream, VmError> {
        let state = self.state()?;
        if !matches!(state.phase, Phase::Booting | Phase::Running | Phase::Paused | Phase::Restarting) {
            return Err(VmError::NotRunning { name: self.name.clone(), phase: state.phase });
        }
        let path = self.file(CONTROL);
        self.with_short_path(CONTROL, UnixStream::connect).map_err(io_error("connect to", &path))
    }

    /// Opens the socket on which the supervisor takes commands.
    pub fn listen(&self) -> Result<UnixListener, VmError> {
        self.with_short_path(CONTROL, UnixListener::bind).map_err(io_error("listen on", &self.file(CONTROL)))
    }

    /// Runs `act` on a path to `name` that fits the 108 bytes of a Unix socket's address, however deep the store lies.
    fn with_short_path<T>(&self, name: &str, act: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
        let directory = File::open(&self.path)?;
        act(PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())))
    }

    fn stored_state(&self) -> Result<State, VmError> {
        match self.read_json(STATE) {
            Err(error @ (VmError::Record { .. } | VmError::NotFound(_))) => self.lost_state(error),
            state => state,
        }
    }

    /// Returns the state of a VM whose state can't be read, as after a loss of power: it has ended, unless somebody answers for it.
    fn lost_state(&self, error: VmError) -> Result<State, VmError> {
        if !self.path.join(RECORD).exists() || self.with_short_path(CONTROL, UnixStream::connect).is_ok() {
            return Err(error);
        }
        let message =
            "what was known of it can't be read: the host lost power, or somebody changed state.json";
        Ok(State {
            phase: Phase::Failed,
            message: Some(message.to_owned()),
            ..State::created(ProcessIdentity::current()?)
        })
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, VmError> {
        let path = self.file(name);
        let bytes = read_file(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => VmError::NotFound(self.name.clone()),
            _ => io_error("read", &path)(source),
        })?;
        serde_json::from_slice(&bytes).map_err(|source| VmError::Record { path, source })
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), VmError> {
        let path = self.file(name);
        let mut bytes =
            serde_json::to_vec(value).map_err(|source| VmError::Record { path: path.clone(), source })?;
        bytes.push(b'\n');
        write_atomically(&path, &bytes).map_err(io_error("write", &path))
    }
}

/// Replaces a file as a whole. Not synced: what a VM's directory says is worth nothing after a power cut.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{write}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // On a full disk it is all that can be done; the first error is the one that counts.
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Reads a file, but no link to one, nor what isn't a file: who looks at another user's store must not wait for a pipe.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    /// Far more than the longest command line.
    const LIMIT: u64 = 16 << 20;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VmError {
    let path = path.to_owned();
    move |source| VmError::Io { act, path, source }
}

#[cfg(test)]
mod tests;
