use super::{Source, SourceError, leaves};
use mvm_launch::exec::{Invocation, Limits, find_program};
use mvm_ref::{FlakeKind, FlakeReference};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const LIMIT: u64 = 1 << 20;

/// Makes a directory of files, by their paths and texts.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    directory
}

fn flake(directory: &Path) -> FlakeReference {
    FlakeReference::directory(directory).expect("a reference")
}

/// Lists what a source writes: kind, mode, path, and what is in it.
fn written(source: &Source) -> Vec<String> {
    let mut bytes = Vec::new();
    source.write("flake", &mut bytes).expect("an archive");
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entries = Vec::new();
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let (header, path) = (entry.header().clone(), entry.path().expect("a path").into_owned());
        assert_eq!((header.uid().ok(), header.gid().ok(), header.mtime().ok()), (Some(0), Some(0), Some(1)));
        let content = match header.entry_type() {
            tar::EntryType::Directory => "/".to_owned(),
            tar::EntryType::Symlink => {
                format!(" -> {}", entry.link_name().expect("a target").expect("a target").display())
            }
            _ => {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text).expect("a text");
                format!(" {text}")
            }
        };
        entries.push(format!("{:o} {}{content}", header.mode().expect("a mode"), path.display()));
    }
    entries
}

#[test]
fn a_directory_is_taken_without_what_gitignore_names() {
    let files = [
        ("flake.nix", "{ }"),
        (".gitignore", "*.log\nout/\n"),
        (".env.example", "A=1"),
        ("sub/.gitignore", "!keep.log\n"),
        ("sub/keep.log", "kept"),
        ("sub/other.log", "not"),
        ("out/big", "not"),
        (".git/config", "not"),
        (".ignore", "flake.nix\n"),
        ("run", "#!"),
    ];
    let tree = directory(&files);
    fs::set_permissions(tree.path().join("run"), fs::Permissions::from_mode(0o4711)).expect("a mode");
    fs::create_dir(tree.path().join("empty")).expect("a directory");
    symlink("sub/keep.log", tree.path().join("near")).expect("a link");
    symlink("/etc/passwd", tree.path().join("far")).expect("a link");
    let source = Source::find(&flake(tree.path()), LIMIT).expect("a source");
    let expected = [
        "755 flake/",
        "644 flake/.env.example A=1",
        "644 flake/.gitignore *.log\nout/\n",
        "644 flake/.ignore flake.nix\n",
        "755 flake/empty/",
        "777 flake/far -> /etc/passwd",
        "644 flake/flake.nix { }",
        "777 flake/near -> sub/keep.log",
        "755 flake/run #!",
        "755 flake/sub/",
        "644 flake/sub/.gitignore !keep.log\n",
        "644 flake/sub/keep.log kept",
    ];
    assert_eq!(written(&source), expected);
    let notice = "links that lead out of the flake lead nowhere in the builder: far → /etc/passwd";
    assert_eq!(source.notices, [notice]);
    assert_eq!((source.revision, source.inside), (None, None));
}

#[test]
fn the_digest_is_that_of_names_kinds_and_contents() {
    let files = [("flake.nix", "{ }"), ("a/b", "text")];
    let digest = |tree: &TempDir| {
        Source::find(&flake(tree.path()), LIMIT).expect("a source").digest().expect("a digest")
    };
    let (one, other) = (directory(&files), directory(&files));
    let before = digest(&one);
    assert_eq!(before, digest(&other));
    let path = other.path().join("a/b");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    assert_eq!(before, digest(&other), "who may read it is nobody's business");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("a mode");
    let executable = digest(&other);
    assert_ne!(before, executable);
    fs::write(&path, "Text").expect("a file");
    let text = digest(&other);
    assert_ne!(executable, text);
    fs::rename(&path, other.path().join("a/c")).expect("a name");
    assert_ne!(text, digest(&other));
}

#[test]
fn flakes_are_looked_for_upwards() {
    let tree = directory(&[("flake.nix", "{ }"), ("a/b/c", ""), ("inner/flake.nix", "{ }")]);
    let root = tree.path().canonicalize().expect("a path");
    let found = |path: &str| Source::find(&flake(&root.join(path)), LIMIT).map(|found| found.root);
    assert_eq!(found("a/b").expect("a flake"), root);
    assert_eq!(found("inner").expect("a flake"), root.join("inner"));
    let inner: FlakeReference = format!("{}?dir=inner", root.display()).parse().expect("a reference");
    let source = Source::find(&inner, LIMIT).expect("a flake");
    assert_eq!((source.root, source.inside.as_deref()), (root.clone(), Some("inner")));
    assert!(matches!(found("nowhere"), Err(SourceError::NoDirectory(_))));
    assert!(matches!(found("a/b/c"), Err(SourceError::NoDirectory(_))));
    let exact: FlakeReference = format!("path:{}", root.join("a").display()).parse().expect("a reference");
    assert!(matches!(Source::find(&exact, LIMIT), Err(SourceError::NoFlake(path)) if path == root.join("a")));
}

#[test]
fn what_no_flake_can_hold_is_refused() {
    let tree = directory(&[("flake.nix", "{ }"), ("big", &"x".repeat(2000))]);
    let error = Source::find(&flake(tree.path()), 1000).expect_err("too large").to_string();
    assert!(error.ends_with("the largest is big (2000)") || error.contains("the largest is big"), "{error}");
    let pipe = tree.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let error = Source::find(&flake(tree.path()), LIMIT).expect_err("a pipe");
    assert_eq!(error.to_string(), format!("{} is a named pipe, which no flake can hold", pipe.display()));
    fs::write(tree.path().join(".gitignore"), "pipe\n").expect("a file");
    Source::find(&flake(tree.path()), LIMIT).expect("it is not part of the flake");
}

/// Runs git in a directory; nothing where there is no git.
fn git(directory: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    if !crate::engine::tests::has("git", "git") {
        return None;
    }
    let program = find_program("git", OsStr::new("")).expect("it was there");
    let output = Invocation::new(program)
        .args(["-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"])
        .args(arguments.to_vec())
        .env("HOME", directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .directory(directory)
        .run(Limits { time: Duration::from_secs(60), output: 1 << 20 })
        .and_then(mvm_launch::exec::Output::success)
        .expect("git");
    Some(output.stdout)
}

#[test]
fn in_a_work_tree_git_says_what_is_tracked() {
    let files = [
        ("web/flake.nix", "{ }"),
        ("web/a file", "1"),
        ("lib/gone", "1"),
        ("lib/changed", "1"),
        ("lib/very/long/path/of/many/directories/that/share/a/beginning/one", "1"),
        ("lib/very/long/path/of/many/directories/that/share/a/beginning/two", "2"),
    ];
    let tree = directory(&files);
    let root = tree.path().canonicalize().expect("a path");
    if git(&root, &["init", "-q"]).is_none() {
        return;
    }
    let web = flake(&root.join("web"));
    assert!(
        matches!(Source::find(&web, LIMIT), Err(SourceError::Untracked(path)) if path == root.join("web/flake.nix"))
    );
    for version in ["2", "4"] {
        git(&root, &["update-index", "--index-version", version]);
        git(&root, &["add", "."]);
        let tracked = git(&root, &["ls-files", "-z"]).expect("git");
        let tracked: Vec<&[u8]> = tracked.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        let found = super::WorkTree::at(&root).expect("a work tree").expect("a work tree").tracked();
        let found: Vec<Vec<u8>> = found.expect("an index").into_iter().map(|one| one.path).collect();
        assert_eq!(found, tracked, "version {version}");
    }
    git(&root, &["commit", "-q", "-m", "one"]);
    let revision = String::from_utf8(git(&root, &["rev-parse", "HEAD"]).expect("git")).expect("text");
    git(&root, &["pack-refs", "--all"]);
    fs::remove_file(root.join("lib/gone")).expect("a file");
    fs::write(root.join("lib/changed"), "2").expect("a file");
    fs::write(root.join("untracked"), "3").expect("a file");
    fs::write(root.join("web/flake.lock"), "{}").expect("a file");
    fs::write(root.join(".gitignore"), "ignored\n").expect("a file");
    fs::write(root.join("ignored"), "3").expect("a file");
    git(&root, &["add", "-N", ".gitignore"]);
    let source = Source::find(&web, LIMIT).expect("a source");
    assert_eq!((source.root.clone(), source.inside.as_deref()), (root.clone(), Some("web")));
    assert_eq!(source.revision.as_deref(), Some(revision.trim()));
    assert_eq!(source.notices, ["git does not track, so the flake does not have: untracked"]);
    let paths: Vec<String> = source
        .entries
        .keys()
        .map(|path| path.display().to_string())
        .filter(|path| !path.contains("very"))
        .collect();
    assert_eq!(
        paths,
        [".gitignore", "lib", "lib/changed", "web", "web/a file", "web/flake.lock", "web/flake.nix"]
    );
    // A lock that was just written is part of the flake before git knows of it.
    assert_eq!(source.lock().expect("a lock"), Some(b"{}".to_vec()));
    let linked =
        root.with_file_name(format!("{}-linked", root.file_name().expect("a name").to_string_lossy()));
    git(&root, &["worktree", "add", "-q", "-b", "linked", &linked.to_string_lossy()]);
    let source = Source::find(&flake(&linked.join("web")), LIMIT).expect("a source");
    assert_eq!((source.root, source.revision.as_deref()), (linked.clone(), Some(revision.trim())));
    fs::remove_dir_all(linked).expect("a directory");
    let exact = FlakeReference::tree(root.join("web"), None).expect("a reference");
    assert_eq!(exact.kind(), FlakeKind::Path);
    let source = Source::find(&exact, LIMIT).expect("a source");
    assert_eq!((source.root, source.revision), (root.join("web"), None));
    git(&root, &["update-index", "--split-index"]);
    let error = Source::find(&web, LIMIT).expect_err("a part of the list is elsewhere").to_string();
    assert!(error.ends_with("it is split; git update-index --no-split-index joins it"), "{error}");
}

#[test]
fn links_out_of_the_tree_are_known() {
    let table = [
        ("a", "b", false),
        ("a", "../b", true),
        ("d/a", "../b", false),
        ("d/a", "../../b", true),
        ("d/a", "e/../../b", false),
        ("d/a", "/b", true),
    ];
    for (path, target, expected) in table {
        assert_eq!(leaves(Path::new(path), &PathBuf::from(target)), expected, "{path} {target}");
    }
}
