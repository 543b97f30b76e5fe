//! What a child does to itself between fork and exec.
#![expect(unsafe_code, reason = "pre_exec is the only way to run system calls in the child before exec")]

use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, Gid, Pid, Resource, Rlimit, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Who a program runs as: a user, a group, and the further groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The real, effective and saved user.
    pub user: Uid,
    /// The real, effective and saved group.
    pub group: Gid,
    /// All other groups.
    pub groups: Vec<Gid>,
}

/// A namespace of users (user_namespaces(7)) in which a program is root and the only user, and one of networks, which is
/// empty. What it may do to files is what its user outside may do.
#[derive(Debug)]
pub struct OwnNamespaces {
    uid_map: String,
    gid_map: String,
}

impl OwnNamespaces {
    /// Describes those of a program that runs as a user and a group.
    pub fn of(user: Uid, group: Gid) -> Self {
        Self { uid_map: format!("0 {user} 1"), gid_map: format!("0 {group} 1") }
    }

    fn enter(&self) -> Result<(), Errno> {
        // A process that changed users does not own the files below without it (PR_SET_DUMPABLE(2const)).
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        // SAFETY: the table of descriptors, which is what the call must be careful with, stays as it is.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)? };
        let files: [(&CStr, &str); 3] = [
            (c"/proc/self/setgroups", "deny"),
            (c"/proc/self/uid_map", &self.uid_map),
            (c"/proc/self/gid_map", &self.gid_map),
        ];
        for (path, text) in files {
            let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, text.as_bytes())?;
        }
        Ok(())
    }
}

/// What is taken from a program before it begins.
///
/// Whatever is named here, it also has no capabilities but over namespaces of its own, and can't gain any by what it
/// executes.
#[derive(Debug, Default)]
pub struct Restrictions {
    /// The `cgroup.procs` of the control group that it joins.
    pub cgroup: Option<File>,
    /// Its limits, both soft and hard.
    pub limits: Vec<(Resource, u64)>,
    /// Who it runs as, instead of the caller.
    pub identity: Option<Identity>,
    /// The namespaces that it is root of.
    pub namespaces: Option<OwnNamespaces>,
    /// The Landlock ruleset that it is under.
    pub ruleset: Option<OwnedFd>,
}

/// A step of a child's setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RestrictionStep {
    /// Joining the control group.
    Cgroup = 1,
    /// Lowering the limits.
    Limits,
    /// Changing users.
    Identity,
    /// Giving up capabilities.
    Capabilities,
    /// Giving up the gain of privileges.
    NoNewPrivs,
    /// Dying with the parent.
    Parent,
    /// Enforcing the Landlock ruleset.
    Ruleset,
    /// Closing what it was not given.
    Descriptors,
    /// Entering namespaces of its own.
    Namespaces,
}

impl RestrictionStep {
    const ALL: [Self; 9] = [
        Self::Cgroup,
        Self::Limits,
        Self::Identity,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Parent,
        Self::Ruleset,
        Self::Descriptors,
        Self::Namespaces,
    ];
}

impl fmt::Display for RestrictionStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cgroup => "it cannot join its control group",
            Self::Limits => "its limits cannot be set",
            Self::Identity => "it cannot become its own user",
            Self::Capabilities => "it cannot give up capabilities",
            Self::NoNewPrivs => "it cannot give up the gain of privileges",
            Self::Parent => "it cannot be tied to its parent",
            Self::Ruleset => "it cannot be put under a Landlock ruleset",
            Self::Descriptors => "its descriptors cannot be closed",
            Self::Namespaces => "it cannot have a namespace of users of its own",
        })
    }
}

/// All that a child does to itself.
pub(super) struct ChildSetup {
    /// What stays open across exec.
    pub descriptors: Vec<OwnedFd>,
    /// Whether it dies with the thread that starts it.
    pub die_with_parent: bool,
    pub restrictions: Option<Restrictions>,
}

/// Where a child that fails says at which step.
pub(super) struct Report(Option<OwnedFd>);

impl Report {
    /// Returns the step at which the child failed, if it was one; to be asked when the child has ended.
    pub fn failed_step(&self) -> Option<RestrictionStep> {
        let mut step = [0];
        let count = rustix::io::read(self.0.as_ref()?, &mut step).ok()?;
        RestrictionStep::ALL.into_iter().find(|known| count == 1 && *known as u8 == step[0])
    }
}

impl ChildSetup {
    /// Has the child of `command` do it.
    pub fn prepare(mut self, command: &mut Command) -> io::Result<Report> {
        let parent = rustix::process::getpid();
        let (report, failure) = match self.restrictions {
            Some(_) => {
                let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
                rustix::pipe::pipe_with(flags).map(|(report, failure)| (Some(report), Some(failure)))?
            }
            None => (None, None),
        };
        // SAFETY: the closure runs in the forked child, where only async-signal-safe work is allowed: it makes plain
        // system calls on values captured before the fork, and neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || {
                self.run(parent).map_err(|(step, errno)| {
                    if let Some(failure) = &failure {
                        // Should even that fail, the errno is told without the step.
                        rustix::io::write(failure, &[step as u8]).ok();
                    }
                    io::Error::from(errno)
                })
            });
        }
        Ok(Report(report))
    }

    /// Runs in the child.
    fn run(&mut self, parent: Pid) -> Result<(), (RestrictionStep, Errno)> {
        let at = |step| move |errno| (step, errno);
        if let Some(restrictions) = &self.restrictions {
            restrictions.before_tie()?;
        }
        // After a change of users, which unties.
        if self.die_with_parent {
            tie_to(parent).map_err(at(RestrictionStep::Parent))?;
        }
        if let Some(ruleset) =
            self.restrictions.as_ref().and_then(|restrictions| restrictions.ruleset.as_ref())
        {
            enforce(ruleset).map_err(at(RestrictionStep::Ruleset))?;
        }
        close_on_exec().map_err(at(RestrictionStep::Descriptors))?;
        for descriptor in &self.descriptors {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())
                .map_err(at(RestrictionStep::Descriptors))?;
        }
        Ok(())
    }
}

impl Restrictions {
    fn before_tie(&self) -> Result<(), (RestrictionStep, Errno)> {
        let at = |step| move |errno| (step, errno);
        if let Some(cgroup) = &self.cgroup {
            rustix::io::write(cgroup, b"0").map_err(at(RestrictionStep::Cgroup))?;
        }
        for &(resource, limit) in &self.limits {
            let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
            rustix::process::setrlimit(resource, limit).map_err(at(RestrictionStep::Limits))?;
        }
        if let Some(Identity { user, group, groups }) = &self.identity {
            // The child has one thread, so that what is a thread's is the process's.
            rustix::thread::set_thread_groups(groups)
                .and_then(|()| rustix::thread::set_thread_res_gid(*group, *group, *group))
                .and_then(|()| rustix::thread::set_thread_res_uid(*user, *user, *user))
                .map_err(at(RestrictionStep::Identity))?;
        }
        match &self.namespaces {
            // That leaves it those over the namespaces.
            Some(namespaces) => namespaces.enter().map_err(at(RestrictionStep::Namespaces))?,
            None => {
                let none = CapabilitySet::empty();
                let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
                rustix::thread::set_capabilities(None, none).map_err(at(RestrictionStep::Capabilities))?;
            }
        }
        rustix::thread::set_no_new_privs(true).map_err(at(RestrictionStep::NoNewPrivs))?;
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        Ok(())
    }
}

fn tie_to(parent: Pid) -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the request: then no signal will ever come.
    if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH) }
}

/// Puts the calling thread under a ruleset (landlock_restrict_self(2)).
fn enforce(ruleset: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the call takes a descriptor, which is open, and flags; it touches no memory of this process.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Marks every descriptor after the standard ones to be closed on exec (close_range(2), Linux 5.11).
fn close_on_exec() -> Result<(), Errno> {
    // SAFETY: the call marks descriptors and closes none, so that no owner's is gone; it touches no memory.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Returns what the last system call that the C library made failed with.
fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
