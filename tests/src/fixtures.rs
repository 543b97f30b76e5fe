//! Images made by other tools, built once and kept in `.cache/fixtures/NAME-KEY` as OCI layouts tagged `latest`.
//!
//! The key is a digest of everything that decides the content. A lock per name keeps two test runs from building
//! the same one; what is half built has another name.

pub mod content;
pub mod hello;
pub mod hostile;
pub mod layers;
pub mod lies;
pub mod nix;
pub mod oci;
pub mod rng;
pub mod scale;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::process::{ProcessError, Program};
use crate::sandbox::{Sandbox, SandboxError};
use crate::workspace;

/// Fetching a builder's packages takes seconds beside a mirror and minutes far from one.
const BUILDER_LIMIT: Duration = Duration::from_secs(900);

/// Part of every key; another number builds everything anew.
const EDITION: &str = "1";

/// Programs that the small images offer by name.
const APPLETS: [&str; 24] = [
    "sh", "cat", "echo", "env", "id", "ls", "mount", "printf", "sleep", "uname", "wc", "stty", "kill",
    "test", "true", "false", "hostname", "head", "tail", "dd", "mkdir", "touch", "sync", "ps",
];

/// Why an image could not be made.
#[derive(Debug, Error)]
pub enum FixtureError {
    /// A file operation failed.
    #[error("cannot make the image {name}: {source}")]
    File {
        /// Its name.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No store could be made to make it in.
    #[error(transparent)]
    Sandbox(Box<SandboxError>),
}

/// Returns a layout of one static program and nothing else: no /proc, /dev, /etc or shell.
pub fn single_static() -> Result<PathBuf, FixtureError> {
    cached("static", &[hello::SOURCE], &|work| {
        let root = work.join("rootfs");
        fs::create_dir(&root).map_err(file_error("static"))?;
        hello::compile(&root.join("hello"))?;
        let layer = pack(&root, work)?;
        umoci_image(&work.join("image"), &[layer], &["--config.entrypoint=/hello"])
    })
}

/// Returns a layout of busybox with a few accounts, whose command is a shell.
pub fn busybox() -> Result<PathBuf, FixtureError> {
    cached("busybox", &[&APPLETS.join(","), ACCOUNTS, GROUPS], &|work| {
        let root = busybox_root(work).map_err(file_error("busybox"))?;
        let layer = pack(&root, work)?;
        let config = [
            "--config.cmd=/bin/sh",
            "--config.env=PATH=/usr/bin:/bin",
            "--config.env=FROM_IMAGE=yes",
            "--config.workingdir=/root",
        ];
        umoci_image(&work.join("image"), &[layer], &config)
    })
}

/// Returns a layout of sixty small layers with whiteouts, opaque directories, links, attributes and changes of type.
pub fn sixty_layers() -> Result<PathBuf, FixtureError> {
    cached("layers", &[layers::EDITION, hello::SOURCE], &|work| {
        let program = work.join("hello");
        hello::compile(&program)?;
        let program = fs::read(program).map_err(file_error("layers"))?;
        let files = layers::write(work, &program).map_err(file_error("layers"))?;
        umoci_image(&work.join("image"), &files, &["--config.entrypoint=/bin/hello"])
    })
}

/// Returns a layout of 128 layers, each with files, a whiteout and a replacement.
pub fn many_layers() -> Result<PathBuf, FixtureError> {
    cached("many-layers", &[scale::EDITION, "128"], &|work| {
        scale::layers(&work.join("image"), 128).map_err(file_error("many-layers"))
    })
}

/// Returns a layout of one layer with 100,000 small files and links.
pub fn many_files() -> Result<PathBuf, FixtureError> {
    cached("many-files", &[scale::EDITION, "100000"], &|work| {
        scale::files(&work.join("image"), 100_000).map_err(file_error("many-files"))
    })
}

/// Returns the busybox layout with a layer on top that umoci made from changes to the unpacked tree: files added,
/// changed, removed, replaced by a link, and a directory removed.
pub fn umoci_repacked() -> Result<PathBuf, FixtureError> {
    let base = busybox()?;
    cached("umoci-repacked", &[&base.to_string_lossy()], &|work| {
        let name = "umoci-repacked";
        let (image, bundle) = (work.join("image"), work.join("bundle"));
        Program::new("cp").arg("-a").arg(&base).arg(&image).run()?.ok()?;
        let tagged = format!("{}:latest", image.display());
        Program::new("umoci").args(["unpack", "--image", &tagged]).arg(&bundle).run()?.ok()?;
        change_tree(&bundle.join("rootfs")).map_err(file_error(name))?;
        Program::new("umoci").args(["repack", "--image", &tagged]).arg(&bundle).run()?.ok()?;
        Program::new("umoci").args(["gc", "--layout"]).arg(&image).run()?.ok()?;
        Ok(())
    })
}

/// Changes an unpacked busybox root in each way that a layer can express.
fn change_tree(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    fs::create_dir_all(root.join("srv/data/deep"))?;
    fs::write(root.join("srv/data/deep/file"), "added\n")?;
    fs::hard_link(root.join("srv/data/deep/file"), root.join("srv/data/linked"))?;
    chown(root.join("srv/data"), Some(1000), Some(70_000))?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    fs::set_permissions(root.join("etc/passwd"), fs::Permissions::from_mode(0o600))?;
    fs::remove_file(root.join("etc/removed"))?;
    fs::remove_file(root.join("etc/not-a-program"))?;
    symlink("passwd", root.join("etc/not-a-program"))?;
    fs::remove_dir_all(root.join("home"))
}

/// Returns a layout of two layers, the upper of which removes a file with a name of 255 bytes.
pub fn long_names() -> Result<PathBuf, FixtureError> {
    cached("names", &[layers::EDITION], &|work| {
        let files = layers::write_long_names(work).map_err(file_error("names"))?;
        umoci_image(&work.join("image"), &files, &["--config.entrypoint=/none"])
    })
}

/// Returns a layout of a Debian root with Python, made by mmdebstrap.
pub fn debian_python() -> Result<PathBuf, FixtureError> {
    let tar = debian_tar()?;
    cached("debian", &[&tar.to_string_lossy()], &|work| {
        let config =
            ["--config.cmd=python3", "--config.env=PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"];
        umoci_image(&work.join("image"), std::slice::from_ref(&tar), &config)
    })
}

/// Returns an archive of the builder's image that mvmctl makes of a release's packages, as apt has them now.
pub fn builder(release: &str) -> Result<PathBuf, FixtureError> {
    let directory = cached(&format!("builder-{release}"), &[], &|work| {
        let sandbox = Sandbox::with_kernel().map_err(|error| FixtureError::Sandbox(Box::new(error)))?;
        sandbox.mvmctl(["builder", "init", "--release", release]).limit(BUILDER_LIMIT).run()?.ok()?;
        let image = work.join("image");
        fs::create_dir(&image).map_err(file_error("builder"))?;
        let name = format!("mvm.local/builder:{release}");
        sandbox.mvmctl(["image", "save", "-o"]).arg(image.join("builder.tar")).arg(name).run()?.ok()?;
        Ok(())
    })?;
    Ok(directory.join("builder.tar"))
}

/// Returns a layout of busybox with a program `nix` in its own `/nix/store`, reached by root's profile, as published images
/// of Nix have it. It knows its version and nothing else.
pub fn nix_in_store(version: &str) -> Result<PathBuf, FixtureError> {
    cached("nix-in-store", &[version, ACCOUNTS], &|work| {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let name = "nix-in-store";
        let root = busybox_root(work).map_err(file_error(name))?;
        let package = format!("nix/store/{}-nix-{version}", "a".repeat(32));
        let program = root.join(&package).join("bin/nix");
        fs::create_dir_all(root.join(&package).join("bin")).map_err(file_error(name))?;
        let script = format!("#!/bin/sh\necho 'nix (Nix) {version}'\n");
        fs::write(&program, script).map_err(file_error(name))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o555)).map_err(file_error(name))?;
        symlink(format!("/{package}"), root.join("root/.nix-profile")).map_err(file_error(name))?;
        let layer = pack(&root, work)?;
        umoci_image(&work.join("image"), &[layer], &["--config.env=PATH=/usr/bin:/bin"])
    })
}

/// Returns a tar of a Debian root with Python.
pub fn debian_tar() -> Result<PathBuf, FixtureError> {
    let arguments = ["--variant=minbase", "--include=python3-minimal", "bookworm"];
    let root = rustix::process::geteuid().is_root();
    let directory = cached("debian-tar", &[&arguments.join(" ")], &|work| {
        let image = work.join("image");
        fs::create_dir(&image).map_err(file_error("debian-tar"))?;
        Program::new("mmdebstrap")
            .args(if root { &[][..] } else { &["--mode=unshare"][..] })
            .args(["--quiet"])
            .args(arguments)
            .arg(image.join("rootfs.tar"))
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run()?
            .ok()?;
        Ok(())
    })?;
    Ok(directory.join("rootfs.tar"))
}

/// Returns a layout that buildah made from a Containerfile with a RUN step; needs root for that step's chroot.
pub fn buildah() -> Result<PathBuf, FixtureError> {
    cached("buildah", &[CONTAINERFILE, &APPLETS.join(",")], &|work| {
        let name = "buildah";
        busybox_root(work).map_err(file_error(name))?;
        fs::write(work.join("Containerfile"), CONTAINERFILE).map_err(file_error(name))?;
        fs::write(work.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)
            .map_err(file_error(name))?;
        fs::write(work.join("registries.conf"), "").map_err(file_error(name))?;
        Program::new("buildah")
            .args(["--storage-driver", "vfs", "--root"])
            .arg(work.join("storage"))
            .arg("--runroot")
            .arg(work.join("run"))
            .args(["--registries-conf", "registries.conf"])
            .args([
                "build",
                "--isolation",
                "chroot",
                "--network",
                "host",
                "--layers",
                "--timestamp",
                "1700000000",
            ])
            .args(["--signature-policy", "policy.json", "--format", "oci", "-f", "Containerfile"])
            .arg("-t")
            .arg(format!("oci:{}:latest", work.join("image").display()))
            .arg(".")
            .directory(work)
            .env("TMPDIR", work)
            .run()?
            .ok()?;
        Ok(())
    })
}

/// Returns the layout `from`, converted by skopeo to zstd layers.
pub fn zstd(from: &Path) -> Result<PathBuf, FixtureError> {
    let key = from.to_string_lossy();
    cached("zstd", &[&key], &|work| {
        Program::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-compress-format", "zstd"])
            .args(["--dest-compress", "--dest-compress-level", "3"])
            .arg(format!("oci:{}:latest", from.display()))
            .arg(format!("dir:{}", work.join("dir").display()))
            .run()?
            .ok()?;
        Program::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("dir:{}", work.join("dir").display()))
            .arg(format!("oci:{}:latest", work.join("image").display()))
            .run()?
            .ok()?;
        Ok(())
    })
}

const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:Guest:/home/guest:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nguest:x:1000:\naudio:x:29:guest\nvideo:x:44:guest,root\n";
const CONTAINERFILE: &str = "FROM scratch\nCOPY rootfs /\nRUN [\"/bin/sh\", \"-c\", \"echo built > /etc/built && rm /etc/removed\"]\n\
     ENV MADE_BY=buildah\nUSER guest\nWORKDIR /home/guest\nSTOPSIGNAL SIGINT\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"cat /etc/built\"]\n";

fn busybox_root(work: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let root = work.join("rootfs");
    for directory in ["bin", "etc", "root", "tmp", "home/guest"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let busybox = workspace::find("busybox").unwrap_or_else(|| PathBuf::from("/bin/busybox"));
    fs::copy(busybox, root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), ACCOUNTS)?;
    fs::write(root.join("etc/group"), GROUPS)?;
    fs::write(root.join("etc/removed"), "a later layer removes this\n")?;
    fs::write(root.join("etc/not-a-program"), "\u{1}plain data\n")?;
    fs::set_permissions(root.join("etc/not-a-program"), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    Ok(root)
}

/// Packs a directory into a layer with fixed owners and times.
fn pack(root: &Path, work: &Path) -> Result<PathBuf, FixtureError> {
    let layer = work.join("layer.tar");
    Program::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1700000000", "-C"])
        .arg(root)
        .arg("-cf")
        .arg(&layer)
        .arg(".")
        .run()?
        .ok()?;
    Ok(layer)
}

/// Makes a layout of these layers, lowest first, with options of `umoci config`.
fn umoci_image(image: &Path, layers: &[PathBuf], config: &[&str]) -> Result<(), FixtureError> {
    let tagged = format!("{}:latest", image.display());
    let umoci = |arguments: &[&str]| Program::new("umoci").args(arguments);
    umoci(&["init", "--layout"]).arg(image).run()?.ok()?;
    umoci(&["new", "--image", &tagged]).run()?.ok()?;
    for layer in layers {
        umoci(&["raw", "add-layer", "--image", &tagged]).arg(layer).run()?.ok()?;
    }
    umoci(&["config", "--image", &tagged]).args(config).run()?.ok()?;
    umoci(&["gc", "--layout"]).arg(image).run()?.ok()?;
    Ok(())
}

/// Returns what `build` has left in `image` under its work directory, now or in an earlier run.
fn cached(
    name: &str,
    inputs: &[&str],
    build: &dyn Fn(&Path) -> Result<(), FixtureError>,
) -> Result<PathBuf, FixtureError> {
    let mut hash = Sha256::new();
    for input in std::iter::once(&EDITION).chain(inputs) {
        hash.update((input.len() as u64).to_le_bytes());
        hash.update(input);
    }
    let key: String = hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let directory = workspace::cache().join("fixtures");
    let done = directory.join(format!("{name}-{key}"));
    if done.is_dir() {
        return Ok(done);
    }
    fs::create_dir_all(&directory).map_err(file_error(name))?;
    let lock = File::create(directory.join(format!("{name}.lock"))).map_err(file_error(name))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| file_error(name)(e.into()))?;
    if done.is_dir() {
        return Ok(done);
    }
    let work = directory.join(format!("{name}.partial"));
    if work.is_dir() {
        fs::remove_dir_all(&work).map_err(file_error(name))?;
    }
    fs::create_dir(&work).map_err(file_error(name))?;
    build(&work)?;
    fs::rename(work.join("image"), &done).map_err(file_error(name))?;
    fs::remove_dir_all(&work).map_err(file_error(name))?;
    Ok(done)
}

fn file_error(name: &str) -> impl FnOnce(io::Error) -> FixtureError {
    let name = name.to_owned();
    move |source| FixtureError::File { name, source }
}
