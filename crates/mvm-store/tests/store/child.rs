//! The test binary run again as another process, with a part to play.

use crate::fixture::{fill, image, never, nobody, open, pull, slot};
use mvm_store::{GcOptions, LeaseTerm, ProcessId};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

const ROLE: &str = "MVM_STORE_TEST_ROLE";
const ROOT: &str = "MVM_STORE_TEST_ROOT";
const MARK: &str = "child: ";

/// A process that plays one part and is killed on drop.
pub struct Actor {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Actor {
    pub fn start(role: &str, root: &Path) -> Self {
        Self::run(Command::new(std::env::current_exe().unwrap()), role, root)
    }

    /// Starts an actor whose mounts nobody else sees, or says why that can't be.
    pub fn start_in_mount_namespace(role: &str, root: &Path) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can mount a small disk".to_owned());
        }
        let tried = Command::new("unshare").args(["-m", "true"]).output();
        if !tried.is_ok_and(|output| output.status.success()) {
            return Err("`unshare -m` does not work here (package util-linux)".to_owned());
        }
        let mut command = Command::new("unshare");
        command.arg("-m").arg(std::env::current_exe().unwrap());
        Ok(Self::run(command, role, root))
    }

    fn run(mut command: Command, role: &str, root: &Path) -> Self {
        let mut child = command
            .args(["--exact", "child::part", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ROOT, root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Waits for the next thing that the actor says; none when it is done.
    pub fn says(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The harness may have written the name of the test on the same line.
            if let Some((_, said)) = line.trim_end().split_once(MARK) {
                return Some(said.to_owned());
            }
        }
    }

    pub fn all_it_says(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.says()).collect()
    }

    /// Lets the actor go on from where it waits.
    pub fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "on").unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the actor and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn ends_well(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.kill();
        }
    }
}

fn say(words: &str) {
    println!("{MARK}{words}");
    std::io::stdout().flush().unwrap();
}

fn wait() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
// tidy: allow ignored-test: no test but a part of others, which start it
#[ignore = "a part that other tests start as a process of its own"]
fn part() {
    let (Ok(role), Some(root)) = (std::env::var(ROLE), std::env::var_os(ROOT)) else { return };
    let root = Path::new(&root);
    if role == "disk" {
        return crate::disk::run_out(root, say);
    }
    let scope = open(root);
    let mut words = role.split(' ');
    match (words.next().unwrap(), words.next()) {
        ("open", None) => {
            drop(open(root));
            say("opened");
        }
        // Holds a slot until told to go on.
        ("build", Some(layer)) => {
            let slot = slot(&scope, layer);
            slot.files().data.set_len(4096).unwrap();
            say("building");
            wait();
            slot.files().data.set_len(0).unwrap();
            drop(fill(slot, layer).unwrap());
            say("done");
        }
        // Pulls an image and says what it had to make.
        ("pull", Some(name)) => {
            let pulled = pull(&scope, name, &["a", "b", "c"]);
            pulled.built.iter().for_each(|made| say(made));
            scope.lease(&pulled.image.record().root_hash, &role, LeaseTerm::Durable).unwrap();
        }
        ("lease", Some(layer)) => {
            let (image, _) = image(&scope, &[layer]);
            let term = LeaseTerm::Process(ProcessId::current().unwrap());
            scope.lease(&image.record().root_hash, "child", term).unwrap();
            say("leased");
            wait();
        }
        // Pulls one image after another until killed, saying so at each.
        ("churn", None) => churn(root),
        ("collect", None) => {
            for _ in 0..40 {
                scope.gc(&GcOptions::default(), &|_| never()).unwrap();
            }
        }
        other => panic!("no part {other:?}"),
    }
}

fn churn(root: &Path) {
    for round in 0_u64.. {
        let scope = open(root);
        let (own, before) = (format!("layer-{round}"), format!("layer-{}", round / 2));
        let name = format!("image-{}", round % 5);
        say("segments");
        let pulled = pull(&scope, &name, &["base", &before, &own]);
        say("pulled");
        scope.lease(&pulled.image.record().root_hash, &name, LeaseTerm::Durable).unwrap();
        drop(pulled);
        if round % 3 == 0 {
            say("collecting");
            scope.release(&name).unwrap();
            scope.remove_reference(&name, &nobody).unwrap();
            scope.gc(&GcOptions::default(), &|_| never()).unwrap();
        }
    }
}
