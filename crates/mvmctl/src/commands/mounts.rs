//! Options of what a VM has mounted beside its root.

use crate::environment;
use crate::error::Misuse;
use mvm_engine::{EngineError, Mount, MountSource, NamedSource, Size, Surroundings, VmSecret};
use std::str::FromStr;

/// Where configuration is by convention, which no guest changes.
const CONFIG: &str = "/mnt/config";
const MIB: u64 = 1 << 20;

/// What is mounted.
#[derive(clap::Args)]
pub struct Mounts {
    /// Mount a volume, which is made if there is none (NAME:/PATH), or a directory of the host (DIRECTORY:/PATH)
    ///
    /// With :ro behind it the guest may only read it. An empty volume gets what the image has at that path. One VM at a time
    /// has a volume. A directory's name has a slash in it (./src), and the VM has the access to it that you have.
    #[arg(long = "volume", short, value_name = "SOURCE:PATH[:ro]")]
    volume: Vec<Volume>,
    /// Mount memory of the guest [size: half of --memory]
    #[arg(long, value_name = "PATH[:size=SIZE]")]
    tmpfs: Vec<Tmpfs>,
    /// Give the guest a secret as the file /mnt/secrets/NAME, which the group of services (gid 900) may read
    ///
    /// It is read at the launch, from a file, a variable or standard input (-), and is on no disk of the host and in no
    /// record: those have its name and where it came from.
    #[arg(long, value_name = "NAME=FILE|env:VAR|-")]
    secret: Vec<NamedSource>,
    /// Make the root read-only; volumes and memory that are mounted can be written
    #[arg(long)]
    read_only: bool,
}

/// A volume and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Volume(Mount);

/// Memory and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tmpfs {
    target: String,
    size: Option<Size>,
    read_only: bool,
}

impl Mounts {
    /// Adds what is mounted to what a VM of so much memory has beside its main process.
    pub fn add_to(self, surroundings: &mut Surroundings, memory_mib: u32) -> Result<(), Misuse> {
        for Volume(mut mount) in self.volume {
            if let MountSource::HostDirectory { path } = &mut mount.source {
                let misuse = |why: String| Misuse(format!("-v {path}: {why}"));
                let absolute = std::path::absolute(&*path).map_err(|error| misuse(error.to_string()))?;
                let text = absolute.into_os_string().into_string();
                *path = text.map_err(|_| misuse("the path of this directory is not UTF-8".to_owned()))?;
            }
            surroundings.mounts.push(mount);
        }
        for Tmpfs { target, size, read_only } in self.tmpfs {
            let size_mib = match size {
                Some(size) => u32::try_from(size.bytes().div_ceil(MIB))
                    .map_err(|_| Misuse(format!("--tmpfs {target}: {size} is too much")))?,
                None => (memory_mib / 2).max(1),
            };
            surroundings.mounts.push(Mount { target, source: MountSource::Tmpfs { size_mib }, read_only });
        }
        surroundings.secrets = self.secret.into_iter().map(|secret| secret.name).collect();
        surroundings.read_only = self.read_only;
        Ok(())
    }

    /// Reads the secrets.
    pub fn secrets(&self) -> anyhow::Result<Vec<VmSecret>> {
        read(&self.secret)
    }
}

/// Reads the secrets of a VM that is launched for the first time.
pub fn read(sources: &[NamedSource]) -> anyhow::Result<Vec<VmSecret>> {
    let absolute = sources.iter().cloned().map(mvm_engine::absolute_source).collect::<Result<Vec<_>, _>>()?;
    let secrets = mvm_engine::read_secrets(&absolute, &environment::passed_to_guest, true);
    Ok(secrets.map_err(EngineError::from)?)
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (source, target) = (parts.next().unwrap_or_default(), parts.next());
        let options = parts.next();
        let Some(target) = target.filter(|target| target.starts_with('/') && parts.next().is_none()) else {
            return Err(
                "write NAME:/PATH or DIRECTORY:/PATH, and :ro behind it to only read it; a volume without a name is not \
                 supported"
                    .to_owned()
            );
        };
        let mut read_only = target == CONFIG;
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            match option {
                "ro" => read_only = true,
                "rw" if target != CONFIG => {}
                "rw" => return Err(format!("{CONFIG} is read-only in every guest")),
                other => return Err(format!("the option {other:?} is not supported; there are ro and rw")),
            }
        }
        if source.starts_with('~') {
            return Err(format!(
                "{source}: only shells know what ~ is, where a word begins with it; write $HOME"
            ));
        }
        let source = match source.contains('/') || source == "." || source == ".." {
            true => MountSource::HostDirectory { path: source.to_owned() },
            false => MountSource::Volume {
                name: source.parse().map_err(|error: mvm_ref::NameError| error.to_string())?,
            },
        };
        Ok(Self(Mount { target: trimmed(target), source, read_only }))
    }
}

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let mut tmpfs = Self { target: trimmed(target), size: None, read_only: false };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match (option, option.strip_prefix("size=")) {
                (_, Some(size)) => tmpfs.size = Some(size.parse().map_err(|error| format!("{error}"))?),
                ("ro", _) => tmpfs.read_only = true,
                ("rw" | "nosuid" | "nodev", _) => {}
                (other, _) => {
                    return Err(format!(
                        "the option {other:?} is not supported; there are size=SIZE, ro and rw"
                    ));
                }
            }
        }
        Ok(tmpfs)
    }
}

/// Returns a path without the slashes at its end.
fn trimmed(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_as_docker_writes_them() {
        let volume = |name: &str, target: &str, read_only| {
            let source = MountSource::Volume { name: name.parse().unwrap() };
            Ok((source, target.to_owned(), read_only))
        };
        let directory = |path: &str, read_only| {
            let source = MountSource::HostDirectory { path: path.to_owned() };
            Ok((source, "/x".to_owned(), read_only))
        };
        for (text, expected) in [
            ("data:/var/lib/x", volume("data", "/var/lib/x", false)),
            ("data:/var/lib/x/:ro", volume("data", "/var/lib/x", true)),
            ("data:/x:rw,ro", volume("data", "/x", true)),
            ("conf:/mnt/config", volume("conf", "/mnt/config", true)),
            ("conf:/mnt/config:rw", Err("/mnt/config is read-only in every guest")),
            ("data:/x:z", Err("the option \"z\" is not supported")),
            ("/host:/x", directory("/host", false)),
            ("./host:/x:ro", directory("./host", true)),
            ("host/dir:/x", directory("host/dir", false)),
            (".:/x", directory(".", false)),
            ("~:/x", Err("~: only shells know what ~ is")),
            ("~/src:/x", Err("~/src: only shells know what ~ is")),
            ("data:x", Err("write NAME:/PATH")),
            ("/anonymous", Err("write NAME:/PATH")),
            ("data:/x:ro:more", Err("write NAME:/PATH")),
            ("", Err("write NAME:/PATH")),
            ("Data:/x", Err("volume name \"Data\" is not valid")),
        ] {
            match (text.parse::<Volume>(), expected) {
                (Ok(Volume(got)), Ok(expected)) => {
                    assert_eq!((got.source, got.target, got.read_only), expected, "{text}");
                }
                (Err(got), Err(words)) => assert!(got.contains(words), "{text}: {got}"),
                (got, expected) => panic!("{text}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn memory_as_docker_writes_it() {
        for (text, size, read_only) in
            [("/run", None, false), ("/run:size=64m", Some(64 << 20), false), ("/a/:ro", None, true)]
        {
            let got: Tmpfs = text.parse().unwrap();
            assert_eq!((got.size.map(Size::bytes), got.read_only), (size, read_only), "{text}");
        }
        assert!("/run:exec".parse::<Tmpfs>().is_err());
        assert!("/run:size=x".parse::<Tmpfs>().is_err());
    }
}
