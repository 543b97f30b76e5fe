//! Directories of the host in guests: what a guest does with them, what it can't, and what becomes of what serves them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::{Program, holders};
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;
use rustix::process::{Pid, Signal, kill_process};

use crate::lifecycle::eventually;
use crate::unprivileged::of_user;
use crate::{BUSYBOX, Case, Outcome, UMOCI, ensure, ensure_eq};

const SHARED: &[Need] = &[Need::Mvmctl, Need::Guest, Need::Virtiofsd, UMOCI, BUSYBOX];
const SHARED_AS_ROOT: &[Need] = &[Need::Mvmctl, Need::Guest, Need::Virtiofsd, Need::Root, UMOCI, BUSYBOX];

pub const CASES: &[Case] = &[
    Case { name: "host_directories::of_an_ordinary_user", needs: SHARED_AS_ROOT, run: ordinary_user },
    Case { name: "host_directories::of_another_user_than_root", needs: SHARED_AS_ROOT, run: owners },
    Case { name: "host_directories::read_only", needs: SHARED, run: read_only },
    Case { name: "host_directories::refused", needs: SHARED, run: refused },
    Case { name: "host_directories::policies", needs: SHARED, run: policies },
    Case { name: "host_directories::nothing_is_left", needs: SHARED, run: nothing_is_left },
    Case { name: "host_directories::of_a_project", needs: SHARED, run: project },
];

/// The user of the tests that need one that is not root.
const USER: u32 = 54_323;

/// A store, an image, and a directory with a file that is to be shared.
struct Host {
    sandbox: Sandbox,
    image: String,
    shared: PathBuf,
}

impl Host {
    fn new() -> Result<Self, Failed> {
        let image = format!("oci:{}:latest", fixtures::busybox()?.display());
        Self::of(Sandbox::with_kernel()?, image)
    }

    fn of(sandbox: Sandbox, image: String) -> Result<Self, Failed> {
        // Plans have the real path.
        let shared = sandbox.path().canonicalize()?.join("shared");
        fs::create_dir(&shared)?;
        fs::write(shared.join("file"), "of the host\n")?;
        sandbox.give_away()?;
        Ok(Self { sandbox, image, shared })
    }

    fn mvmctl(&self, arguments: &[&str]) -> Program {
        let program = self.sandbox.mvmctl(arguments).directory(self.sandbox.path());
        let Some(directory) = workspace::virtiofsd().and_then(|file| file.parent().map(Path::to_owned))
        else {
            return program;
        };
        program.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", directory.display()))
    }

    /// Describes a run of a shell's script in a VM of its own.
    fn sh(&self, options: &[&str], script: &str) -> Program {
        let command = [self.image.as_str(), "sh", "-c", script];
        self.mvmctl(&[&["run", "--rm"], options, &command].concat())
    }

    fn mount(&self, path: &str) -> String {
        format!("{}:{path}", self.shared.display())
    }

    /// Returns the processes that have the shared directory open.
    fn servers(&self) -> Result<Vec<Pid>, Failed> {
        let found = holders(&self.shared)?;
        Ok(found.into_iter().filter_map(|(pid, _)| Pid::from_raw(pid.try_into().ok()?)).collect())
    }
}

fn read(path: &Path) -> Result<String, Failed> {
    Ok(fs::read_to_string(path)?)
}

/// An ordinary user's guest writes to an ordinary user's directory, as that user, and nowhere else.
fn ordinary_user() -> Outcome {
    let (sandbox, image) = of_user(USER)?;
    let host = Host::of(sandbox, image)?;
    fs::write(host.sandbox.path().join("secret"), "of somebody else")?;
    symlink("../secret", host.shared.join("out"))?;
    symlink("/secret", host.shared.join("absolute"))?;
    fs::write(host.shared.join("roots"), "of root")?;
    fs::set_permissions(host.shared.join("roots"), fs::Permissions::from_mode(0o600))?;
    let script = format!(
        "cd /m && grep ' /m ' /proc/mounts && stat -c %u:%g . && cat file && echo guest > new && chown 7:8 new &&
         stat -c %u:%g new && mkdir -p a/b && mv new a/b/new && rm file && chmod 4755 a/b/new
         mknod device c 1 3; cat out absolute roots; echo $?; su -s /bin/sh -c 'echo x > other' nobody 2>/dev/null; id -u
         ls -a | wc -l; test $(stat -c %u roots) != {USER} && echo foreign"
    );
    let output = host.sh(&["-v", "./shared:/m"], &script).run()?.ok()?;
    let told = output.out();
    let lines: Vec<&str> = told.lines().collect();
    ensure!(lines[0].starts_with("directory-0 /m virtiofs rw,nosuid,nodev,"), "{told}");
    let numbers = format!("{USER}:{USER}");
    let others = ["of the host", numbers.as_str(), "1", "0", "6", "foreign"];
    ensure_eq!(lines[1..], [&[numbers.as_str()][..], &others].concat());
    for name in ["mknod: ", "out", "absolute", "roots"] {
        ensure!(output.err().contains(name), "{name}: {}", output.err());
    }
    let new = host.shared.join("a/b/new");
    ensure_eq!(read(&new)?, "guest\n");
    let meta = new.metadata()?;
    ensure_eq!((meta.uid(), meta.gid()), (USER, USER));
    ensure!(!host.shared.join("file").exists() && !host.shared.join("device").exists(), "left behind");

    // What the host changes is seen, also by a VM that is started again.
    let write = "while ! test -e /m/go; do sleep 0.05; done; cat /m/go >> /m/seen; sync";
    let mount = host.mount("/m");
    let run = ["run", "-d", "--name", "again", "-v", &mount, &host.image, "sh", "-c", write];
    host.mvmctl(&run).run()?.ok()?;
    for turn in ["one\n", "two\n"] {
        fs::write(host.shared.join("go"), turn)?;
        host.mvmctl(&["vm", "wait", "again"]).run()?.ok()?;
        if turn == "one\n" {
            fs::write(host.shared.join("go"), "two\n")?;
            host.mvmctl(&["vm", "start", "again"]).run()?.ok()?;
        }
    }
    ensure_eq!(read(&host.shared.join("seen"))?, "one\ntwo\n");
    let details = host.sandbox.json(["vm", "inspect", "--json", "again"])?;
    ensure_eq!(details["mounts"][0]["source"]["path"].as_str(), host.shared.to_str());
    let shown = host.mvmctl(&["vm", "inspect", "again"]).run()?.ok()?.out();
    ensure!(shown.contains(&format!("/m: directory {}\n", host.shared.display())), "{shown}");
    Ok(())
}

/// What root shares is shared with the rights of its owner.
fn owners() -> Outcome {
    let host = Host::new()?;
    chown(&host.shared, Some(USER), Some(USER))?;
    fs::set_permissions(host.shared.join("file"), fs::Permissions::from_mode(0o600))?;
    let script = "cd /m && touch new && stat -c %u . new && cat file";
    let output = host.sh(&["-v", &host.mount("/m")], script).run()?.exits(1)?;
    ensure_eq!(output.out(), format!("{USER}\n{USER}\n"));
    ensure!(output.err().contains("Permission denied"), "{}", output.err());
    ensure_eq!(host.shared.join("new").metadata()?.uid(), USER);
    chown(&host.shared, Some(0), Some(0))?;
    let output = host.sh(&["-v", &host.mount("/m")], "cd /m && cat file; echo x > new").run()?.exits(1)?;
    ensure_eq!(output.out(), "of the host\n");
    Ok(())
}

/// That a directory can only be read is the host's doing.
fn read_only() -> Outcome {
    let host = Host::new()?;
    let script = "cd /m && cat file; echo x > new; mount -o remount,rw /m; grep -c ' /m virtiofs rw' /proc/mounts
                  echo x > new; echo x >> file; rm file; chmod 777 file; mkdir d; mv file g; ln file h; touch file; true";
    let output = host.sh(&["-v", &host.mount("/m:ro")], script).run()?.ok()?;
    ensure_eq!(output.out(), "of the host\n1\n");
    ensure_eq!(output.err().matches("Read-only file system").count(), 9);
    ensure_eq!(read(&host.shared.join("file"))?, "of the host\n");
    ensure_eq!(fs::read_dir(&host.shared)?.count(), 1);

    // Two of them, one in the other, beside a volume; on several processors there is another machine.
    let (outer, inner) = (host.mount("/m"), host.mount("/m/inner:ro"));
    fs::create_dir(host.shared.join("inner"))?;
    let script = "echo x > /m/new && cat /m/inner/file && ! touch /m/inner/y && touch /v/x && nproc";
    let options = ["--cpus", "2", "-v", &outer, "-v", &inner, "-v", "data:/v"];
    let output = host.sh(&options, script).run()?.ok()?;
    ensure_eq!(output.out(), "of the host\n2\n");
    ensure_eq!(read(&host.shared.join("new"))?, "x\n");
    Ok(())
}

/// What can't be shared is told before anything starts.
fn refused() -> Outcome {
    let host = Host::new()?;
    symlink("shared", host.sandbox.path().join("link"))?;
    fs::create_dir_all(host.sandbox.path().join("store/inside"))?;
    for (source, words) in [
        ("./nothing", "there is no directory"),
        ("./shared/file", "shared/file is not a directory"),
        ("/", "\"/\""),
        ("/proc/self", "outside /proc, /sys and /dev"),
        ("~/x", "only shells know what ~ is"),
        (".", "holds the store of mvm"),
        ("./store/inside", "or is in it"),
    ] {
        let output = host.sh(&["-v", &format!("{source}:/m")], "true").run()?;
        ensure!(output.code() == 125 || output.code() == 2, "{source}: {}", output.err());
        ensure!(output.err().contains(words), "{source}: {}", output.err());
    }
    // A link is followed when the plan is made, and never again.
    let made = host.sandbox.path().join("plan");
    let made = made.to_str().ok_or("a path is not UTF-8")?;
    let create = ["plan", "create", "-o", made, "-v", "./link:/m", &host.image, "cat", "/m/file"];
    host.mvmctl(&create).run()?.ok()?;
    ensure_eq!(host.mvmctl(&["launch", "--rm", made]).run()?.ok()?.out(), "of the host\n");
    fs::rename(&host.shared, host.sandbox.path().join("moved"))?;
    let gone = host.mvmctl(&["launch", "--rm", made]).run()?.exits(125)?;
    ensure!(gone.err().contains("there is no directory"), "{}", gone.err());
    symlink("moved", &host.shared)?;
    let link = host.mvmctl(&["launch", "--rm", made]).run()?.exits(125)?;
    ensure!(link.err().contains("leads through a symbolic link"), "{}", link.err());

    if Path::new("/usr/libexec/virtiofsd").exists() || Path::new("/usr/lib/virtiofsd").exists() {
        return Ok(());
    }
    let run = ["run", "--rm", "-v", "./moved:/m", &host.image, "true"];
    let absent = host.sandbox.mvmctl(run).directory(host.sandbox.path()).env("PATH", "/nowhere");
    let absent = absent.run()?.exits(125)?;
    for words in ["virtiofsd is not installed", "apt-get install virtiofsd", "mvmctl cp", "a volume"] {
        ensure!(absent.err().contains(words), "{}", absent.err());
    }
    Ok(())
}

/// Policies forbid directories of the host, or name those that may be shared.
fn policies() -> Outcome {
    let host = Host::new()?;
    let file = host.sandbox.path().join("policy.toml");
    let policy = file.to_str().ok_or("a path is not UTF-8")?;
    let run = || host.sh(&["--policy", policy, "-v", &host.mount("/m:ro")], "cat /m/file").run();
    for (text, told) in [
        ("host-directories = []".to_owned(), Some("of the host")),
        ("mounts = [\"volume\", \"tmpfs\"]".to_owned(), Some("the plan mounts a host-directory")),
        ("host-directories = [\"/srv\", \"/etc\"]".to_owned(), Some("that is allowed: /etc, /srv")),
        (format!("host-directories = [{:?}]", host.sandbox.path().canonicalize()?), None),
    ] {
        fs::write(&file, &text)?;
        let output = run()?;
        match told {
            Some(words) => ensure!(
                output.code() == 125
                    && output.err().contains("allowed-mounts")
                    && output.err().contains(words),
                "{text}: {}",
                output.err()
            ),
            None => ensure_eq!(output.ok()?.out(), "of the host\n"),
        }
        let shown = host.mvmctl(&["policy", "show", "--policy", policy]).run()?.ok()?.out();
        ensure!(shown.contains(text.split(' ').next().unwrap_or_default()), "{shown}");
    }
    let run = ["run", "--rm", "--policy", "production", "-v", &host.mount("/m"), &host.image, "true"];
    let output = host.mvmctl(&run).run()?.exits(125)?;
    ensure!(output.err().contains("of the host: keep it in a volume"), "{}", output.err());
    Ok(())
}

/// What serves a directory ends with its VM, and a VM ends with what serves it.
fn nothing_is_left() -> Outcome {
    let host = Host::new()?;
    let up = |name: &str| -> Result<(), Failed> {
        let mount = host.mount("/m");
        let script = format!("echo up > /m/{name}; sleep 1000");
        let run = ["run", "-d", "--name", name, "-v", &mount, &host.image, "sh", "-c", &script];
        host.mvmctl(&run).run()?.ok()?;
        ensure!(eventually(|| Ok(host.shared.join(name).exists()))?, "{name} does not come up");
        ensure!(!host.servers()?.is_empty(), "nobody serves {name}");
        Ok(())
    };
    let details = |name: &str| host.sandbox.json(["vm", "inspect", "--json", name]);
    let pid = |name: &str, which: &str| -> Result<Pid, Failed> {
        let number = details(name)?[which].as_u64().and_then(|number| i32::try_from(number).ok());
        Ok(number.and_then(Pid::from_raw).ok_or_else(|| format!("{name} has no {which}"))?)
    };
    let alone = || eventually(|| Ok(host.servers()?.is_empty()));

    up("stopped")?;
    host.mvmctl(&["vm", "stop", "stopped"]).run()?.ok()?;
    ensure!(host.servers()?.is_empty(), "left after a stop");

    for (name, which) in [("orphaned", "supervisor_pid"), ("headless", "hypervisor_pid")] {
        up(name)?;
        kill_process(pid(name, which)?, Signal::KILL)?;
        ensure!(alone()?, "left after the end of {which}");
    }

    up("unserved")?;
    let hypervisor = pid("unserved", "hypervisor_pid")?;
    for server in host.servers()? {
        kill_process(server, Signal::KILL)?;
    }
    let ended = || Ok(details("unserved")?["phase"] == "failed");
    ensure!(eventually(ended)?, "{}", details("unserved")?);
    let status = host.mvmctl(&["vm", "status", "unserved"]).run()?.out();
    ensure!(status.contains("virtiofsd, which serves /"), "{status}");
    ensure!(rustix::process::test_kill_process(hypervisor).is_err(), "the hypervisor is left");
    // It starts again.
    fs::remove_file(host.shared.join("unserved"))?;
    host.mvmctl(&["vm", "start", "unserved"]).run()?.ok()?;
    ensure!(eventually(|| Ok(host.shared.join("unserved").exists()))?, "it does not come up again");
    host.mvmctl(&["vm", "rm", "--force", "unserved"]).run()?.ok()?;
    ensure!(alone()?, "left after all");
    Ok(())
}

/// Paths in a project are meant from its directory.
fn project() -> Outcome {
    let host = Host::new()?;
    let directory = host.sandbox.path().join("project");
    fs::create_dir_all(directory.join("site"))?;
    fs::write(directory.join("site/page"), "page\n")?;
    let text = format!(
        "[vm.web]\nimage = {:?}\ncommand = [\"sh\", \"-c\", \"cat /a/page /b/file > /b/seen; sleep 1000\"]\n\
         mounts = [\"./site:/a:ro\", {{ target = \"/b\", host = \"../shared\" }}]\n",
        host.image
    );
    fs::write(directory.join("mvm.toml"), &text)?;
    let here = |arguments: &[&str]| host.mvmctl(arguments).directory(&directory).run();
    here(&["validate"])?.ok()?;
    here(&["up", "-d"])?.ok()?;
    let seen = host.shared.join("seen");
    ensure!(
        eventually(|| Ok(fs::read_to_string(&seen).is_ok_and(|text| text == "page\nof the host\n")))?,
        "unseen"
    );
    // What is as the file says is left alone.
    let again = here(&["up", "-d"])?.ok()?;
    ensure!(!again.err().contains("removed"), "{}", again.err());
    here(&["down"])?.ok()?;
    fs::write(directory.join("mvm.toml"), text.replace("./site", "~/site"))?;
    let mistake = here(&["validate"])?.exits(2)?;
    ensure!(mistake.err().contains("only shells know what ~ is"), "{}", mistake.err());
    fs::write(directory.join("mvm.toml"), text.replace("./site", "./sight"))?;
    let absent = here(&["up", "-d"])?;
    ensure!(absent.code() != 0 && absent.err().contains("there is no directory"), "{}", absent.err());
    Ok(())
}
