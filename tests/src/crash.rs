//! Killing a program at each of its system calls that change something, one run for each, with strace.
//!
//! A kill on entering the Nth call leaves what the first N - 1 did. strace counts for each thread by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::process::{Output, ProcessError, Program};

/// System calls that change a file, a directory or the set of processes.
const CALLS: &str = "write,pwrite64,writev,pwritev,copy_file_range,sendfile,ftruncate,fallocate,fchmod,rename,renameat,\
                     renameat2,link,linkat,symlink,symlinkat,mkdir,mkdirat,fsync,fdatasync,unlink,unlinkat,rmdir,flock,\
                     clone,clone3,fork,vfork,execve";

/// A place at which a program is killed: on entering a call for the `number`th time in one thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The system call.
    pub call: String,
    /// Which one, from 1 on.
    pub number: usize,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.call, self.number)
    }
}

/// Says whether every point is tried, or a sample: `MVM_CRASH=all`.
pub fn thorough() -> bool {
    std::env::var_os("MVM_CRASH").is_some_and(|value| value == "all")
}

/// Runs a program undisturbed and returns the points that it has, in order.
pub fn points(program: &Path, arguments: &[String], log: &Path) -> Result<Vec<Point>, ProcessError> {
    strace(log, &[format!("trace={CALLS}")], program, arguments).run()?.ok()?;
    let text = fs::read_to_string(log)
        .map_err(|source| ProcessError::Run { command: format!("read {}", log.display()), source })?;
    Ok(points_in(&text))
}

fn points_in(log: &str) -> Vec<Point> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in log.lines() {
        // `1234  write(3, …`; `1234 <... write resumed>…` is the end of one, `1234 +++ …` of a process.
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if !call.is_empty() && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            *counts.entry((thread, call)).or_default() += 1;
        }
    }
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    for ((_, call), count) in counts {
        let known = most.entry(call).or_default();
        *known = count.max(*known);
    }
    let points = most
        .into_iter()
        .flat_map(|(call, count)| (1..=count).map(move |number| Point { call: call.to_owned(), number }));
    // The first is strace's own way to the program.
    points.filter(|point| point.call != "execve" || point.number > 1).collect()
}

/// Returns at most `count` points, spread evenly, or all where the environment asks for that.
pub fn sample(points: Vec<Point>, count: usize) -> Vec<Point> {
    if thorough() || points.len() <= count {
        return points;
    }
    let all = points.len();
    (0..count).map(|index| points[index * all / count].clone()).collect()
}

/// Runs a program and kills it at a point, should it come there.
pub fn kill_at(
    point: &Point,
    program: &Path,
    arguments: &[String],
    log: &Path,
) -> Result<Output, ProcessError> {
    let (call, number) = (&point.call, point.number);
    let injected = [format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={number}")];
    strace(log, &injected, program, arguments).run()
}

/// Describes a run under strace, which stops at each call: with `--seccomp-bpf` it injects no signals.
fn strace(log: &Path, expressions: &[String], program: &Path, arguments: &[String]) -> Program {
    let mut strace = Program::new("strace").clean_env().args(["-f", "-q", "-s", "0"]);
    for expression in expressions {
        strace = strace.args(["-e", expression]);
    }
    strace.arg("-o").arg(log).arg(program).args(arguments)
}

/// Returns the paths of all files and directories below one, relative to it, but for those that `skip` names.
pub fn inventory(root: &Path, skip: &dyn Fn(&Path) -> bool) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if skip(&path) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                directories.push(path.clone());
            }
            found.insert(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread() {
        let log = "10 execve(\"/x\", [\"x\"]) = 0\n10 write(1, \"\"...) = 1\n11 write(3, \"\"..., 5 <unfinished ...>\n\
                   10 fsync(4) = 0\n11 <... write resumed>) = 5\n11 write(3, \"\"...) = 2\n10 write(1) = 1\n\
                   11 write(1) = 0\n11 +++ exited with 0 +++\n12  execve(\"/y\") = 0\n12 execve(\"/z\") = 0\n";
        let shown: Vec<String> = points_in(log).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["execve 2", "fsync 1", "write 1", "write 2", "write 3"]);
        let few: Vec<String> = sample(points_in(log), 2).iter().map(ToString::to_string).collect();
        assert!(few == ["execve 2", "write 1"] || thorough(), "{few:?}");
    }
}
