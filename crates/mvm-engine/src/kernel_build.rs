//! Builds the tuned guest kernel from a distribution's kernel source.
//!
//! The configuration is the file `kernel/config-x86_64`, carried in this binary and applied over `allnoconfig`:
//! what it does not name is off. Kconfig drops an option whose dependencies are missing without a word, so the
//! resolved configuration is compared with the request before anything is compiled. Time stamp, user, host and
//! build number are fixed and the environment is cleared: the same source and compiler give the same bytes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mvm_launch::exec::{ExecError, Invocation, Limits, find_program};
use thiserror::Error;

/// The requested configuration for x86_64, as in `kernel/config-x86_64`.
pub const CONFIG_X86_64: &str = include_str!("../../../kernel/config-x86_64");

/// Programs of the build, each with the Debian package that has it.
const TOOLS: [(&str, &str); 10] = [
    ("make", "make"),
    ("gcc", "gcc"),
    ("ld", "binutils"),
    ("strip", "binutils"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("perl", "perl"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
];

/// The header that objtool is compiled with, and its package.
const LIBELF: (&str, &str) = ("libelf.h", "libelf-dev");

/// Directories of programs that are always searched.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Fixed values for what the kernel would otherwise take from the clock and the machine.
const FIXED: [(&str, &str); 5] = [
    ("LC_ALL", "C"),
    ("KBUILD_BUILD_TIMESTAMP", "Thu, 01 Jan 1970 00:00:00 +0000"),
    ("KBUILD_BUILD_USER", "mvm"),
    ("KBUILD_BUILD_HOST", "mvm"),
    ("KBUILD_BUILD_VERSION", "1"),
];

/// Lines of the log that an error repeats.
const TAIL_LINES: usize = 12;

/// What to build and where.
#[derive(Debug, Clone)]
pub struct KernelBuild {
    /// A source tree, or an archive with one (`linux-source-*.tar.xz`).
    pub source: PathBuf,
    /// Directory for the unpacked tree, objects and `build.log`; about 2 GB. An interrupted build continues there.
    pub work: PathBuf,
    /// Directory that receives `vmlinux` and `config`.
    pub output: PathBuf,
    /// Number of parallel compiler processes.
    pub jobs: NonZeroUsize,
    /// Directories in which programs are looked up, as in the variable `PATH`; the system's own are searched too.
    pub search_path: OsString,
}

/// A finished kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltKernel {
    /// Stripped ELF image with a PVH entry note.
    pub vmlinux: PathBuf,
    /// The resolved configuration that it was built with.
    pub config: PathBuf,
    /// The release as `uname -r` gives it in the guest.
    pub version: String,
}

/// What a build is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A stage begins.
    Step(Step),
    /// The compiler driver said this line.
    Line(&'a str),
}

/// A stage of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The archive is unpacked.
    Unpack,
    /// The configuration is resolved and compared with the request.
    Configure,
    /// The kernel is compiled.
    Compile,
    /// Symbols are removed and the files put in place.
    Install,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Unpack => "unpacking the kernel source",
            Step::Configure => "configuring the kernel",
            Step::Compile => "compiling the kernel (minutes)",
            Step::Install => "stripping the kernel",
        })
    }
}

/// An option that Kconfig did not resolve as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostOption {
    /// Name with its `CONFIG_` prefix.
    // tidy: allow string-field: whatever a Kconfig file says, only shown
    pub name: String,
    /// Value asked for; `n` stands for "not set".
    pub wanted: String,
    /// Value found; `n` stands for "not set".
    pub got: String,
}

/// Why a kernel could not be built.
#[derive(Debug, Error)]
pub enum KernelBuildError {
    /// Programs or headers of the build are absent.
    #[error("building a kernel needs {missing}: apt-get install {packages}")]
    MissingTools {
        /// Names of what was not found, comma separated.
        missing: String,
        /// Packages that have them, space separated.
        packages: String,
    },
    /// A path holds a character that make would split or expand.
    #[error("{path:?} has a space, a colon or another character that make cannot have in a directory name")]
    UnusablePath {
        /// The path in question.
        path: PathBuf,
    },
    /// The source is neither an archive with a kernel tree nor such a tree.
    #[error("{path:?} is not a kernel source tree: it has no Kbuild and Kconfig")]
    NotSource {
        /// The path in question.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {act} {path:?}")]
    File {
        /// What was tried.
        act: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A program could not be started or waited for.
    #[error("cannot build the kernel")]
    Exec(#[from] ExecError),
    /// A program ended with a failure.
    #[error("{program} failed with {status} (log: {log:?}):\n{tail}")]
    Failed {
        /// Its name and first arguments.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// File with all that it said.
        log: PathBuf,
        /// The last lines of that file.
        tail: String,
    },
    /// Options of the request are not in the resolved configuration.
    #[error("the kernel source does not take {} of the requested options: {}", .0.len(), describe(.0))]
    LostOptions(Vec<LostOption>),
}

/// Builds a kernel and returns where its files are.
///
/// # Errors
/// See [`KernelBuildError`]; the output directory is only touched when everything else has succeeded.
pub fn build(
    request: &KernelBuild,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<BuiltKernel, KernelBuildError> {
    check_tools(&request.search_path)?;
    create_dir(&request.work)?;
    let work = canonical(&request.work)?;
    let mut build = Run { search_path: &request.search_path, log: work.join("build.log"), progress };
    fs::write(&build.log, b"").map_err(file_error("create", &build.log))?;

    let tree = build.source_tree(&canonical(&request.source)?, &work)?;
    let objects = work.join("objects");
    create_dir(&objects)?;
    for path in [&tree, &objects] {
        check_path(path)?;
    }

    (build.progress)(Progress::Step(Step::Configure));
    let fragment = work.join("requested.config");
    fs::write(&fragment, CONFIG_X86_64).map_err(file_error("write", &fragment))?;
    let mut all = OsString::from("KCONFIG_ALLCONFIG=");
    all.push(&fragment);
    build.make(&tree, &objects, &[all.as_os_str(), OsStr::new("allnoconfig")])?;
    build.make(&tree, &objects, &[OsStr::new("olddefconfig")])?;
    let config = objects.join(".config");
    let resolved = fs::read_to_string(&config).map_err(file_error("read", &config))?;
    let lost = lost_options(CONFIG_X86_64, &resolved);
    if !lost.is_empty() {
        return Err(KernelBuildError::LostOptions(lost));
    }

    (build.progress)(Progress::Step(Step::Compile));
    let jobs = OsString::from(format!("-j{}", request.jobs));
    build.make(&tree, &objects, &[jobs.as_os_str(), OsStr::new("vmlinux")])?;

    (build.progress)(Progress::Step(Step::Install));
    build.install(&objects, &request.output)
}

/// Returns the options of `requested` that `resolved` has differently, in the order of the request.
///
/// Both are Kconfig files: `CONFIG_X=value` or `# CONFIG_X is not set`; an absent option is not set.
pub fn lost_options(requested: &str, resolved: &str) -> Vec<LostOption> {
    let found: std::collections::BTreeMap<&str, &str> = resolved.lines().filter_map(option).collect();
    requested
        .lines()
        .filter_map(option)
        .filter_map(|(name, wanted)| {
            let got = found.get(name).copied().unwrap_or("n");
            (got != wanted).then(|| LostOption {
                name: name.to_owned(),
                wanted: wanted.to_owned(),
                got: got.to_owned(),
            })
        })
        .collect()
}

/// Reads one line of a Kconfig file.
fn option(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
        return name.starts_with("CONFIG_").then_some((name, "n"));
    }
    let (name, value) = line.split_once('=')?;
    name.starts_with("CONFIG_").then_some((name, value))
}

fn describe(lost: &[LostOption]) -> String {
    let words: Vec<String> =
        lost.iter().map(|o| format!("{} (wanted {}, got {})", o.name, o.wanted, o.got)).collect();
    words.join(", ")
}

/// One build: where programs are, where their words go, who listens.
struct Run<'a> {
    search_path: &'a OsStr,
    log: PathBuf,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Run<'_> {
    /// Returns the source tree, unpacked first if it is an archive.
    fn source_tree(&mut self, source: &Path, work: &Path) -> Result<PathBuf, KernelBuildError> {
        let tree = if source.is_dir() {
            source.to_owned()
        } else {
            let tree = work.join("source");
            let partial = work.join("source.partial");
            if !tree.is_dir() {
                (self.progress)(Progress::Step(Step::Unpack));
                if partial.is_dir() {
                    fs::remove_dir_all(&partial).map_err(file_error("remove", &partial))?;
                }
                create_dir(&partial)?;
                let arguments = [
                    OsStr::new("-xf"),
                    source.as_os_str(),
                    OsStr::new("--strip-components=1"),
                    OsStr::new("--no-same-owner"),
                    OsStr::new("-C"),
                    partial.as_os_str(),
                ];
                self.program("tar", &arguments)?;
                fs::rename(&partial, &tree).map_err(file_error("rename", &partial))?;
            }
            tree
        };
        if tree.join("Kbuild").is_file() && tree.join("Kconfig").is_file() {
            Ok(tree)
        } else {
            Err(KernelBuildError::NotSource { path: source.to_owned() })
        }
    }

    fn make(&mut self, tree: &Path, objects: &Path, what: &[&OsStr]) -> Result<(), KernelBuildError> {
        let mut output = OsString::from("O=");
        output.push(objects);
        let mut arguments =
            vec![OsStr::new("-C"), tree.as_os_str(), output.as_os_str(), OsStr::new("ARCH=x86")];
        arguments.extend_from_slice(what);
        self.program("make", &arguments)
    }

    /// Strips the kernel into the output directory and names it there in one step.
    fn install(&mut self, objects: &Path, output: &Path) -> Result<BuiltKernel, KernelBuildError> {
        create_dir(output)?;
        let release = objects.join("include/config/kernel.release");
        let version = fs::read_to_string(&release).map_err(file_error("read", &release))?.trim().to_owned();
        let (vmlinux, config) = (output.join("vmlinux"), output.join("config"));
        let (new_vmlinux, new_config) = (output.join(".vmlinux.new"), output.join(".config.new"));
        let unstripped = objects.join("vmlinux");
        self.program("strip", &[OsStr::new("-o"), new_vmlinux.as_os_str(), unstripped.as_os_str()])?;
        fs::copy(objects.join(".config"), &new_config).map_err(file_error("write", &new_config))?;
        for (from, to) in [(&new_config, &config), (&new_vmlinux, &vmlinux)] {
            let file = File::open(from).map_err(file_error("open", from))?;
            file.sync_all().map_err(file_error("sync", from))?;
            fs::rename(from, to).map_err(file_error("rename", from))?;
        }
        Ok(BuiltKernel { vmlinux, config, version })
    }

    /// Runs one program to its end with a cleared environment; its words go to the log and the listener.
    fn program(&mut self, name: &str, arguments: &[&OsStr]) -> Result<(), KernelBuildError> {
        let mut log = File::options()
            .append(true)
            .create(true)
            .open(&self.log)
            .map_err(file_error("open", &self.log))?;
        let errors = log.try_clone().map_err(file_error("open", &self.log))?;
        let mut running =
            invocation(name, self.search_path)?.args(arguments).start(Stdio::piped(), errors.into())?;
        if let Some(stdout) = running.take_stdout() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.map_err(file_error("read what make says for", &self.log))?;
                log.write_all(&line)
                    .and_then(|()| log.write_all(b"\n"))
                    .map_err(file_error("write", &self.log))?;
                (self.progress)(Progress::Line(String::from_utf8_lossy(&line).trim()));
            }
        }
        let status = running.wait().map_err(file_error("wait for the program that writes", &self.log))?;
        if status.success() {
            return Ok(());
        }
        let text = fs::read(&self.log).map_err(file_error("read", &self.log))?;
        Err(KernelBuildError::Failed {
            program: name.to_owned(),
            status,
            log: self.log.clone(),
            tail: tail(&String::from_utf8_lossy(&text)),
        })
    }
}

/// Describes a run with nothing in its environment but the search path and the fixed values.
fn invocation(name: &str, search_path: &OsStr) -> Result<Invocation, ExecError> {
    let mut invocation = Invocation::new(find_program(name, search_path)?);
    for (name, value) in FIXED {
        invocation = invocation.env(name, value);
    }
    let mut path = search_path.to_owned();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(SYSTEM_PATH);
    Ok(invocation.env("PATH", path))
}

/// Checks that every program and header of the build is there, so that a build does not stop half-way.
fn check_tools(search_path: &OsStr) -> Result<(), KernelBuildError> {
    let found = |name: &str| find_program(name, search_path).is_ok();
    let header = if found("gcc") {
        let limits = Limits { time: Duration::from_secs(60), output: 64 * 1024 };
        let arguments = ["-fsyntax-only", "-include", "libelf.h", "-x", "c", "/dev/null"];
        invocation("gcc", search_path)?.args(arguments).run(limits)?.status.success()
    } else {
        true
    };
    report_missing(&|name| if name == LIBELF.0 { header } else { found(name) })
}

/// Names what is not found, and the packages that have it.
fn report_missing(found: &dyn Fn(&str) -> bool) -> Result<(), KernelBuildError> {
    let missing: Vec<(&str, &str)> =
        TOOLS.into_iter().chain([LIBELF]).filter(|(name, _)| !found(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    Err(KernelBuildError::MissingTools { missing: names.join(", "), packages: packages.join(" ") })
}

/// Refuses directory names that make would take apart.
fn check_path(path: &Path) -> Result<(), KernelBuildError> {
    let plain = path.to_str().is_some_and(|text| {
        text.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',' | '@'))
    });
    if plain { Ok(()) } else { Err(KernelBuildError::UnusablePath { path: path.to_owned() }) }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

fn create_dir(path: &Path) -> Result<(), KernelBuildError> {
    fs::create_dir_all(path).map_err(file_error("create", path))
}

fn canonical(path: &Path) -> Result<PathBuf, KernelBuildError> {
    fs::canonicalize(path).map_err(file_error("open", path))
}

fn file_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KernelBuildError {
    let path = path.to_owned();
    move |source| KernelBuildError::File { act, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(name: &str, wanted: &str, got: &str) -> LostOption {
        LostOption { name: name.to_owned(), wanted: wanted.to_owned(), got: got.to_owned() }
    }

    #[test]
    fn lost_options_compares_both_notations() {
        let requested =
            "# words\nCONFIG_A=y\nCONFIG_B=\"x\"\n# CONFIG_C is not set\nCONFIG_D=64\nCONFIG_E=y\n";
        let table = [
            ("CONFIG_A=y\nCONFIG_B=\"x\"\nCONFIG_D=64\nCONFIG_E=y\nCONFIG_OTHER=y\n", vec![]),
            (
                "CONFIG_A=m\nCONFIG_B=\"x\"\nCONFIG_C=y\nCONFIG_D=64\n# CONFIG_E is not set\n",
                vec![lost("CONFIG_A", "y", "m"), lost("CONFIG_C", "n", "y"), lost("CONFIG_E", "y", "n")],
            ),
        ];
        for (resolved, expected) in table {
            assert_eq!(lost_options(requested, resolved), expected);
        }
    }

    #[test]
    fn requested_configuration_names_each_option_once() {
        let mut names: Vec<&str> = CONFIG_X86_64.lines().filter_map(option).map(|(name, _)| name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn missing_tools_are_named_with_their_packages() {
        let table: [(&[&str], &str); 3] = [
            (&["flex"], "building a kernel needs flex: apt-get install flex"),
            (&["ld", "strip", "bc"], "building a kernel needs ld, strip, bc: apt-get install binutils bc"),
            (&["libelf.h"], "building a kernel needs libelf.h: apt-get install libelf-dev"),
        ];
        for (absent, expected) in table {
            let error = report_missing(&|name| !absent.contains(&name)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert!(report_missing(&|_| true).is_ok());
    }

    #[test]
    fn paths_that_make_takes_apart_are_refused() {
        for (path, fine) in [("/a/b-c_1.2", true), ("/a b", false), ("/a:b", false), ("/a$b", false)] {
            assert_eq!(check_path(Path::new(path)).is_ok(), fine, "{path}");
        }
    }
}
