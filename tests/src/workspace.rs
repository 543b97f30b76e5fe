//! Where things are: the workspace, its cache, the program under test.

use std::path::{Path, PathBuf};

/// Returns the root of the workspace.
pub fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Returns the directory for what may be kept between runs and is ignored by git.
pub fn cache() -> PathBuf {
    root().join(".cache")
}

/// Returns the program under test: `$MVMCTL`, else the release build of the workspace.
pub fn mvmctl() -> PathBuf {
    std::env::var_os("MVMCTL").map_or_else(|| root().join("target/release/mvmctl"), PathBuf::from)
}

/// Returns a program of the distribution's registry package, which is unpacked and not installed.
pub fn docker_registry() -> PathBuf {
    cache().join("packages/docker-registry/usr/bin/docker-registry")
}

/// Returns what serves directories of the host: the one that was built from its crate, else the system's.
pub fn virtiofsd() -> Option<PathBuf> {
    let built = cache().join("packages/virtiofsd/bin/virtiofsd");
    let system = ["/usr/libexec", "/usr/lib"].map(|directory| Path::new(directory).join("virtiofsd"));
    [built].into_iter().chain(system).find(|file| file.is_file()).or_else(|| find("virtiofsd"))
}

/// Returns the unpacked package of the distribution's kernel.
pub fn distribution_kernel() -> PathBuf {
    cache().join("packages/linux-image-cloud-amd64")
}

/// Returns the tuned kernel and its configuration, where `make kernel` has built them.
pub fn tuned_kernel() -> Option<PathBuf> {
    let directory =
        std::env::var_os("MVM_TEST_KERNEL").map_or_else(|| cache().join("kernel/out"), PathBuf::from);
    directory.join("vmlinux").is_file().then_some(directory.join("vmlinux"))
}

/// Returns the file of a program, searched as a user with the system's directories would.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}
