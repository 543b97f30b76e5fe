//! Which file a command names.

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// A command that names no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("{name:?} is not in the image's PATH ({path})")]
    NotFound { name: String, path: String },
    #[error("{} is {what}, not a program that can be executed", path.display())]
    NotExecutable { path: PathBuf, what: &'static str },
}

/// Returns the path of the program `name` inside `root`.
///
/// A name with a slash is a path, relative to the working `directory`, and execve(2) says whether there is a
/// program. Another one is looked for in the directories of `path`, where an empty one is the working directory.
pub(crate) fn find_program(
    root: BorrowedFd<'_>,
    name: &str,
    path: &str,
    directory: &str,
) -> Result<PathBuf, LookupError> {
    let directory = Path::new(directory);
    if name.contains('/') {
        return Ok(directory.join(name));
    }
    let mut unusable = None;
    // "." and ".." are directories wherever they are looked for.
    for entry in path.split(':').filter(|_| !name.is_empty()) {
        let candidate = directory.join(entry).join(name);
        match probe(root, &candidate) {
            Some(Ok(())) => return Ok(candidate),
            Some(Err(what)) => unusable = unusable.or(Some((candidate, what))),
            None => {}
        }
    }
    Err(match unusable {
        Some((path, what)) => LookupError::NotExecutable { path, what },
        None => LookupError::NotFound { name: name.to_owned(), path: path.to_owned() },
    })
}

/// Returns whether a path leads to something inside `root` that can be executed, or to what instead.
fn probe(root: BorrowedFd<'_>, path: &Path) -> Option<Result<(), &'static str>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // What can't be reached isn't there: a loop, a name too long, a file for a directory.
    let file = openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let stat = fstat(&file).ok()?;
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_mode & 0o111 != 0 => Ok(()),
        FileType::RegularFile => Err("a file without execute permission"),
        FileType::Directory => Err("a directory"),
        _ => Err("no regular file"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn finds_programs_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["bin", "sbin", "work", "bin/folder"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        for (name, mode) in
            [("bin/tool", 0o755), ("bin/text", 0o644), ("work/local", 0o755), ("sbin/text", 0o755)]
        {
            fs::write(root.join(name), "").unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("/bin/tool", root.join("bin/link")).unwrap();
        symlink("loop", root.join("bin/loop")).unwrap();
        // True of the machine that runs the test, not of the root.
        symlink("/proc/self/exe", root.join("bin/outside")).unwrap();

        let opened = fs::File::open(root).unwrap();
        let find = |name: &str, path: &str| match find_program(opened.as_fd(), name, path, "/work") {
            Ok(path) => path.display().to_string(),
            Err(error) => error.to_string(),
        };
        for (name, path, expected) in [
            ("tool", "/usr/bin:/bin", "/bin/tool"),
            ("tool", "../bin", "/work/../bin/tool"),
            ("link", "/bin", "/bin/link"),
            ("local", "/bin:", "/work/local"),
            ("./local", "/bin", "/work/./local"),
            ("/bin/none", "/bin", "/bin/none"),
            ("text", "/bin:/sbin", "/sbin/text"),
            (
                "text",
                "/bin",
                "/bin/text is a file without execute permission, not a program that can be executed",
            ),
            ("folder", "/bin", "/bin/folder is a directory, not a program that can be executed"),
            ("loop", "/bin", "\"loop\" is not in the image's PATH (/bin)"),
            ("outside", "/bin", "\"outside\" is not in the image's PATH (/bin)"),
            ("none", "/bin", "\"none\" is not in the image's PATH (/bin)"),
            ("tool", "/bin/tool:/nowhere", "\"tool\" is not in the image's PATH (/bin/tool:/nowhere)"),
            ("", "/bin", "\"\" is not in the image's PATH (/bin)"),
            ("..", "/bin", "/bin/.. is a directory, not a program that can be executed"),
        ] {
            assert_eq!(find(name, path), expected, "{name} in {path}");
        }
    }
}
