//! Control groups (cgroup v2; the kernel's `admin-guide/cgroup-v2`), so that processes can be limited, counted and
//! killed together.
//!
//! ```text
//! /                  the kernel's threads and this program, without limits
//! ├─ main            the main process
//! ├─ exec            what is executed beside it
//! ├─ services        NAME.service each
//! └─ health          NUMBER.check each
//! ```
//!
//! The four together may have fewer processes than the kernel can have, so that this program can always start one.

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

const ROOT: &str = "/sys/fs/cgroup";
/// Processes and threads that only the kernel and this program may have.
const RESERVE: u64 = 128;
/// Most bytes read from one of the kernel's files.
const MAX_FILE: u64 = 64 * 1024;
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// A control group that can't be made or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("opening {ROOT} failed (has the kernel cgroup v2?)")]
    Root(#[source] io::Error),
    #[error("making control group {name:?} failed")]
    Make {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("writing {value:?} to {file} of control group {name:?} failed")]
    Write {
        name: String,
        file: &'static str,
        value: String,
        #[source]
        source: io::Error,
    },
    #[error("reading {file} of control group {name:?} failed")]
    Read {
        name: String,
        file: &'static str,
        #[source]
        source: io::Error,
    },
}

/// The groups that all started processes are in.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) main: Group,
    pub(crate) exec: Group,
    services: Group,
    health: Group,
    /// What the services together may have.
    service_pids: u64,
    /// What the checks together may have.
    health_pids: u64,
}

/// One control group.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    directory: OwnedFd,
}

/// What a group may use; absent means as much as the groups above it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) pids: Option<u64>,
    /// Hundredths of one processor.
    pub(crate) cpu_percent: Option<u32>,
}

/// How many processes and threads each of the groups may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    main: u64,
    services: u64,
    exec: u64,
    health: u64,
}

impl Shares {
    /// Divides what the kernel can have: a tenth each for commands and checks, the rest for those who do the work.
    fn of(kernel: u64, main: bool, services: bool) -> Self {
        let all = kernel.saturating_sub(RESERVE).max(RESERVE);
        let tenth = all / 10;
        let (main, services) = match (main, services) {
            (true, true) => (tenth * 4, tenth * 4),
            (_, false) => (tenth * 7, tenth),
            (false, true) => (tenth, tenth * 7),
        };
        Self { main, services, exec: tenth, health: tenth }
    }
}

impl Tree {
    /// Makes the groups; `main` and `services` say whether there is anything to be in theirs.
    pub(crate) fn make(main: bool, services: bool) -> Result<Self, CgroupError> {
        let directory = rustix::fs::open(ROOT, DIRECTORY, Mode::empty())
            .map_err(|error| CgroupError::Root(error.into()))?;
        let root = Group { name: "/".to_owned(), directory };
        // What is mounted there may be another file system, where this file can't be.
        if root.read("cgroup.controllers").is_err() {
            return Err(CgroupError::Root(Errno::NODEV.into()));
        }
        root.delegate();
        let kernel = [number("/proc/sys/kernel/threads-max"), number("/proc/sys/kernel/pid_max")];
        let shares = Shares::of(kernel.into_iter().flatten().min().unwrap_or(32_768), main, services);
        let make = |name: &str, pids| -> Result<Group, CgroupError> {
            let group = root.child(name)?;
            group.try_limit(Limits { pids: Some(pids), ..Limits::default() });
            Ok(group)
        };
        let (services, health) = (make("services", shares.services)?, make("health", shares.health)?);
        services.delegate();
        health.delegate();
        Ok(Self {
            main: make("main", shares.main)?,
            exec: make("exec", shares.exec)?,
            services,
            health,
            service_pids: shares.services,
            health_pids: shares.health,
        })
    }

    /// Makes the group of a service; without a limit of its own it may not have all processes that the services
    /// together may have.
    pub(crate) fn service(&self, name: &str, mut limits: Limits) -> Result<Group, CgroupError> {
        let group = self.services.child(&format!("{}.service", name.replace('/', "_")))?;
        if limits.pids.is_none() {
            group.try_limit(Limits { pids: Some(self.service_pids / 4 * 3), ..Limits::default() });
        }
        limits.pids = limits.pids.map(|pids| pids.min(self.service_pids));
        group.limit(limits)?;
        // One process without memory is none that the others could go on with.
        group.try_write("memory.oom.group", "1");
        Ok(group)
    }

    /// Makes the group of a health check.
    pub(crate) fn check(&self, number: usize) -> Result<Group, CgroupError> {
        let group = self.health.child(&format!("{number}.check"))?;
        group.try_limit(Limits { pids: Some(self.health_pids / 2), ..Limits::default() });
        Ok(group)
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Group {
    fn child(&self, name: &str) -> Result<Self, CgroupError> {
        let error = |source: Errno| CgroupError::Make { name: name.to_owned(), source: source.into() };
        match mkdirat(&self.directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(error(errno)),
        }
        let directory =
            openat(&self.directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).map_err(error)?;
        Ok(Self { name: name.to_owned(), directory })
    }

    /// Lets the groups below have limits of each kind that the kernel has.
    fn delegate(&self) {
        for controller in CONTROLLERS {
            self.try_write("cgroup.subtree_control", &format!("+{controller}"));
        }
    }

    /// Sets limits, all that are given.
    pub(crate) fn limit(&self, limits: Limits) -> Result<(), CgroupError> {
        if let Some(bytes) = limits.memory_bytes {
            self.write("memory.max", &bytes.to_string())?;
        }
        if let Some(pids) = limits.pids {
            self.write("pids.max", &pids.to_string())?;
        }
        match limits.cpu_percent {
            Some(percent) => self.write("cpu.max", &cpu(percent)),
            None => Ok(()),
        }
    }

    /// Takes the limit of processor time away: who starts a process waits until it executes its program.
    pub(crate) fn unthrottle(&self) -> Result<(), CgroupError> {
        self.write("cpu.max", "max")
    }

    /// Sets limits that are a precaution, where the kernel has such.
    fn try_limit(&self, limits: Limits) {
        if self.limit(limits).is_err() {}
    }

    fn try_write(&self, file: &'static str, value: &str) {
        if self.write(file, value).is_err() {}
    }

    fn write(&self, file: &'static str, value: &str) -> Result<(), CgroupError> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&self.directory, file, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|fd| File::from(fd).write_all(value.as_bytes()))
            .map_err(|source| CgroupError::Write {
                name: self.name.clone(),
                file,
                value: value.to_owned(),
                source,
            })
    }

    fn read(&self, file: &'static str) -> Result<String, CgroupError> {
        let read = || -> io::Result<String> {
            let fd = openat(&self.directory, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let mut text = String::new();
            File::from(fd).take(MAX_FILE).read_to_string(&mut text)?;
            Ok(text)
        };
        read().map_err(|source| CgroupError::Read { name: self.name.clone(), file, source })
    }

    /// Opens the file by which a process joins: it writes `0`.
    pub(crate) fn door(&self) -> Result<OwnedFd, CgroupError> {
        let file = "cgroup.procs";
        openat(&self.directory, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| CgroupError::Read { name: self.name.clone(), file, source: errno.into() })
    }

    /// Kills every process in it.
    pub(crate) fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
    }

    /// Returns whether a process in it lives; what can't be told counts as none.
    pub(crate) fn is_populated(&self) -> bool {
        self.read("cgroup.events").is_ok_and(|text| field(&text, "populated") == Some(1))
    }

    /// Returns how many of its processes were killed for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.read("memory.events").ok().and_then(|text| field(&text, "oom_kill")).unwrap_or(0)
    }

    /// Returns the memory that it uses, in KiB.
    pub(crate) fn memory_kib(&self) -> Option<u64> {
        let bytes: u64 = self.read("memory.current").ok()?.trim().parse().ok()?;
        Some(bytes / 1024)
    }

    /// Returns the processor time that it used, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> Option<u64> {
        Some(field(&self.read("cpu.stat").ok()?, "usage_usec")? / 1000)
    }
}

/// Returns a value of a flat keyed file.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Returns `cpu.max` for hundredths of one processor: microseconds in each 100 ms.
fn cpu(percent: u32) -> String {
    format!("{} 100000", u64::from(percent) * 1000)
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_can_have_is_never_given_away_whole() {
        for kernel in [0, 100, 1_900, 32_768, 4_194_304] {
            for (main, services) in [(true, true), (true, false), (false, true)] {
                let Shares { main, services, exec, health } = Shares::of(kernel, main, services);
                let all = main + services + exec + health;
                assert!(all + RESERVE <= kernel.max(2 * RESERVE), "{kernel}: {all}");
                assert!(exec > 0 && health > 0 && services > 0 && main > 0, "{kernel}");
            }
        }
        let shares = Shares::of(2_128, true, false);
        assert_eq!(shares, Shares { main: 1_400, services: 200, exec: 200, health: 200 });
        let shares = Shares::of(2_128, true, true);
        assert_eq!(shares, Shares { main: 800, services: 800, exec: 200, health: 200 });
    }

    #[test]
    fn the_kernels_words_are_read() {
        let text = "low 0\nhigh 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(field(text, "oom_kill"), Some(2));
        assert_eq!(field(text, "oom"), Some(3));
        assert_eq!(field(text, "max"), None);
        assert_eq!(field("populated x\n", "populated"), None);
        assert_eq!(cpu(150), "150000 100000");
    }
}
