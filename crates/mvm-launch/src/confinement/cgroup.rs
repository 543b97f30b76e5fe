//! A control group (cgroup v2) for each hypervisor, where the host lets this program make one.
//!
//! Whose part of the tree a process may change is the service manager's to say. For an ordinary user that is the group
//! above the caller's own, if it was delegated to them and holds no processes itself (systemd's `Delegate=` together
//! with `DelegateSubgroup=`). Root may make groups at the top, and does so below `mvm`.
//! (<https://docs.kernel.org/admin-guide/cgroup-v2.html>, <https://systemd.io/CGROUP_DELEGATION/>)

use super::reservation::Task;
use crate::backend::Accelerator;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Where systems mount the tree; the second is beside cgroup v1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The group at the top below which root's hypervisors get theirs.
const TOP: &str = "mvm";
/// What the names of hypervisors' groups begin with; the supervisor's pid and start time follow.
const PREFIX: &str = "mvm-vm-";
/// Controllers without which a group would limit nothing.
const NEEDED: [&str; 2] = ["memory", "pids"];
/// Controllers that are made use of.
const USED: [&str; 3] = ["memory", "pids", "cpu"];

/// What QEMU itself may hold beside the guest's memory.
const OVERHEAD: u64 = 512 << 20;
/// What its emulator may hold of translated code.
const TRANSLATIONS: u64 = 1 << 30;
/// Threads beside those of the guest's processors.
const THREADS: u32 = 128;

/// Says what could not be done with a control group.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}", path.display())]
pub struct CgroupError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl CgroupError {
    /// Returns the error and its cause in one line, for a host that is only reported on.
    pub(super) fn in_full(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// A directory of the tree in which groups for hypervisors are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    /// It is made at first use.
    directory: PathBuf,
    /// Controllers that groups in it can have.
    controllers: Vec<String>,
}

impl Tree {
    pub fn describe(&self) -> String {
        format!("a group below {} that limits {}", self.directory.display(), self.controllers.join(", "))
    }
}

/// Finds where groups can be made, or says what is missing. Changes nothing.
pub(super) fn find() -> Result<Tree, String> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts: Vec<&Path> = MOUNTS.iter().map(Path::new).collect();
    // Root of a user namespace has no say at the top of the tree.
    find_in(&mounts, &own, super::user::available().is_ok())
}

fn find_in(mounts: &[&Path], own: &str, root: bool) -> Result<Tree, String> {
    let mount = mounts.iter().find(|mount| mount.join("cgroup.controllers").is_file());
    let mount = *mount.ok_or("cgroup v2 is not mounted")?;
    let directory = if root {
        if !writable(mount) {
            return Err(format!("{} is not writable", mount.display()));
        }
        mount.join(TOP)
    } else {
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = own.ok_or("this process is in no group of cgroup v2")?;
        let above = mount.join(own).parent().filter(|above| above.starts_with(mount)).map(Path::to_owned);
        let above = above.ok_or("this process is at the top of the tree")?;
        if !delegated(&above) {
            return Err(format!(
                "{} is not delegated to this user (systemd: Delegate=yes and DelegateSubgroup=)",
                above.display()
            ));
        }
        above
    };
    let from = if root { mount } else { &directory };
    let offered = fs::read_to_string(from.join("cgroup.controllers")).unwrap_or_default();
    let controllers: Vec<String> = USED
        .iter()
        .filter(|name| offered.split_ascii_whitespace().any(|offered| offered == **name))
        .map(|name| (*name).to_owned())
        .collect();
    match NEEDED.iter().find(|needed| !controllers.iter().any(|name| name == *needed)) {
        Some(lacking) => Err(format!("cgroup v2 has no {lacking} controller in {}", from.display())),
        None => Ok(Tree { directory, controllers }),
    }
}

/// Says whether groups may be made in a directory: it is this user's, and has no processes of its own.
fn delegated(directory: &Path) -> bool {
    let empty = fs::read_to_string(directory.join("cgroup.procs")).is_ok_and(|text| text.is_empty());
    empty
        && [directory.to_owned(), directory.join("cgroup.procs"), directory.join("cgroup.subtree_control")]
            .iter()
            .all(|path| writable(path))
}

fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// A group for one hypervisor; it is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    controllers: Vec<String>,
}

impl Group {
    /// Makes an empty group.
    pub fn make(tree: &Tree) -> Result<Self, CgroupError> {
        let fail = |act, path: &Path| {
            let path = path.to_owned();
            move |source| CgroupError { act, path, source }
        };
        let directory = &tree.directory;
        let top = directory.parent().filter(|_| directory.ends_with(TOP));
        if let Some(top) = top {
            enable(top, &tree.controllers)?;
            match fs::create_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(fail("create", directory)(error));
                }
                _ => {}
            }
        }
        enable(directory, &tree.controllers)?;
        sweep_in(directory, false);
        let process = std::process::id();
        let start = start_time(process).unwrap_or(0);
        let path = directory.join(format!("{PREFIX}{process}-{start}"));
        fs::create_dir(&path).map_err(fail("create", &path))?;
        Ok(Self { path, controllers: tree.controllers.clone() })
    }

    /// Writes down what a hypervisor may use, and tells it.
    pub fn limit(&self, task: &Task<'_>) -> Result<String, CgroupError> {
        let mut told = Vec::new();
        for (controller, file, value) in limits(task) {
            if self.controllers.iter().any(|known| known == controller) {
                write(&self.path.join(file), &value)?;
                told.push(format!("{file} {value}"));
            }
        }
        Ok(format!("{}: {}", self.path.display(), told.join(", ")))
    }

    /// Returns the path of the file by which a process joins the group.
    pub fn door_path(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Opens the file by which a process joins the group, by writing a 0.
    pub fn door(&self) -> Result<File, CgroupError> {
        let path = self.door_path();
        File::options().write(true).open(&path).map_err(|source| CgroupError { act: "open", path, source })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that is still in use, because its process is only about to die, is removed by the next launch.
        drop(fs::remove_dir(&self.path));
    }
}

fn limits(task: &Task<'_>) -> [(&'static str, &'static str, String); 3] {
    let translations = if task.accelerator == Accelerator::Tcg { TRANSLATIONS } else { 0 };
    let memory = (u64::from(task.memory_mib) << 20) + OVERHEAD + translations;
    [
        ("memory", "memory.max", memory.to_string()),
        ("pids", "pids.max", (THREADS + 2 * task.cpus).to_string()),
        // Of each tenth of a second: its processors' time, and one more for the rest of QEMU.
        ("cpu", "cpu.max", format!("{} 100000", (u64::from(task.cpus) + 1) * 100_000)),
    ]
}

/// Lets groups in a directory have controllers.
fn enable(directory: &Path, controllers: &[String]) -> Result<(), CgroupError> {
    let path = directory.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&path).map_err(|source| CgroupError {
        act: "read",
        path: path.clone(),
        source,
    })?;
    for name in controllers {
        if !enabled.split_ascii_whitespace().any(|enabled| enabled == name) {
            write(&path, &format!("+{name}"))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    let written = File::options().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| CgroupError { act: "write to", path: path.to_owned(), source })
}

/// Removes the groups of supervisors that are gone, unless it is a dry run, and returns their paths in order.
pub(super) fn sweep(dry_run: bool) -> Vec<PathBuf> {
    find().map_or_else(|_| Vec::new(), |tree| sweep_in(&tree.directory, dry_run))
}

fn sweep_in(directory: &Path, dry_run: bool) -> Vec<PathBuf> {
    let mut gone = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return gone };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((process, start)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        let (Ok(process), Ok(start)) = (process.parse::<u32>(), start.parse::<u64>()) else { continue };
        if start_time(process) == Some(start) {
            continue;
        }
        // The kernel refuses to remove a group that somebody is in.
        let empty = match dry_run {
            true => fs::read(entry.path().join("cgroup.procs")).map_or(true, |text| text.is_empty()),
            false => fs::remove_dir(entry.path()).is_ok(),
        };
        if empty {
            gone.push(entry.path());
        }
    }
    gone.sort();
    gone
}

/// Returns when a process started, in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
fn start_time(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests;
