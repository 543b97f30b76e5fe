//! Projects: the VMs of an mvm.toml started, left alone, made anew, stopped and removed together.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use rustix::process::Signal;

use crate::{Case, GUEST, MMDEBSTRAP, Outcome, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "up::a_project_comes_and_goes", needs: GUEST, run: comes_and_goes },
    Case { name: "up::attached_until_interrupted", needs: GUEST, run: attached },
    Case { name: "up::what_is_in_the_way", needs: GUEST, run: in_the_way },
    Case {
        name: "up::a_python_service_and_its_data",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, MMDEBSTRAP],
        run: python_service,
    },
];

/// A store and a directory with an mvm.toml.
struct Place {
    sandbox: Sandbox,
    directory: PathBuf,
}

impl Place {
    fn new(text: &str) -> Result<Self, Failed> {
        let sandbox = Sandbox::with_kernel()?;
        let directory = sandbox.path().join("shop");
        fs::create_dir(&directory)?;
        let place = Self { sandbox, directory };
        place.write(text)?;
        Ok(place)
    }

    fn write(&self, text: &str) -> Outcome {
        let image = format!("oci:{}:latest", fixtures::busybox()?.display());
        Ok(fs::write(self.directory.join("mvm.toml"), text.replace("IMAGE", &image))?)
    }

    fn mvmctl(&self, arguments: &[&str]) -> Program {
        self.sandbox.mvmctl(arguments).directory(&self.directory)
    }

    /// Runs a verb that says on stderr what it did, in these lines, among others.
    fn says(&self, arguments: &[&str], expected: &[&str]) -> Outcome {
        let said = self.mvmctl(arguments).run()?.ok()?.err();
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("shop-")).collect();
        ensure_eq!(lines, expected);
        Ok(())
    }

    /// Returns when each VM was made that runs.
    fn running(&self) -> Result<Vec<(String, String)>, Failed> {
        let list = self.sandbox.json(["vm", "ls", "--json"])?;
        let text = |vm: &serde_json::Value, key: &str| vm[key].to_string().trim_matches('"').to_owned();
        let vms = list.as_array().into_iter().flatten();
        Ok(vms.map(|vm| (text(vm, "name"), text(vm, "plan"))).collect())
    }
}

const SHOP: &str = r#"
[vm.app]
image = "IMAGE"
network = "none"
after = ["db"]
env = { GREETING = "hello" }
env-file = "app.env"
command = "echo $GREETING from $WHO; exec sleep 1000"

[vm.db]
image = "IMAGE"
network = "none"
memory = 200
command = ["-c", "sleep 1000"]
entrypoint = "/bin/sh"
"#;

fn comes_and_goes() -> Outcome {
    let place = Place::new(SHOP)?;
    fs::write(place.directory.join("app.env"), "WHO=here\nGREETING=never\n")?;
    let plans = place.mvmctl(&["up", "--plan-only"]).run()?.ok()?.out();
    ensure_eq!(plans.lines().filter(|line| line.contains("payload")).count(), 2);
    ensure_eq!(place.sandbox.vms()?, Vec::<String>::new());

    place.says(&["up", "--wait"], &["shop-db: created", "shop-app: created"])?;
    let first = place.running()?;
    ensure_eq!(first.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["shop-app", "shop-db"]);
    // What runs as the file says stays; what differs is made anew, and nothing else is.
    place.says(&["up", "-d"], &["shop-db: running", "shop-app: running"])?;
    ensure_eq!(place.running()?, first);
    place.write(&SHOP.replace("hello", "goodbye"))?;
    place.says(&["up", "-d"], &["shop-db: running", "shop-app: recreated"])?;
    let second = place.running()?;
    ensure!(second[0].1 != first[0].1 && second[1] == first[1], "{first:?} became {second:?}");
    place.mvmctl(&["vm", "stop", "-t", "0", "shop-db"]).run()?.ok()?;
    place.says(&["up", "--wait", "db"], &["shop-db: started"])?;
    place.says(&["up", "--wait", "app"], &["shop-db: running", "shop-app: running"])?;
    // It has booted, which is before its command says something.
    let begin = Instant::now();
    let mut said = String::new();
    while said.is_empty() && begin.elapsed() < Duration::from_secs(60) {
        said = place.mvmctl(&["logs", "shop-app"]).run()?.ok()?.out();
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure_eq!(said, "goodbye from here\n");

    // One that the file has no more goes too, before those that it has.
    place
        .write(SHOP.split("[vm.db]").nth(1).map(|db| format!("[vm.db]{db}")).unwrap_or_default().as_str())?;
    place.says(&["down", "-t", "0"], &["shop-app: removed", "shop-db: removed"])?;
    ensure_eq!(place.sandbox.vms()?, Vec::<String>::new());
    place.says(&["down"], &[])
}

fn attached() -> Outcome {
    let text = "
[vm.one]
image = 'IMAGE'
network = 'none'
command = 'echo first; exec sleep 1000'
stop-grace = 0
[vm.three]
image = 'IMAGE'
network = 'none'
after = ['one']
command = 'printf \"\\\\033[2Jcleared\"; echo; echo last; exec sleep 1000'
stop-grace = 0
";
    let place = Place::new(text)?;
    let output = place.mvmctl(&["up"]).signal_when("last", Signal::INT).run()?.exits(130)?;
    let mut lines: Vec<String> = output.out().lines().map(str::to_owned).collect();
    lines.sort();
    ensure_eq!(lines, ["one   | first", "three | \\x1b[2Jcleared", "three | last"]);
    ensure_eq!(place.running()?, Vec::new());
    ensure_eq!(place.sandbox.vms()?, ["shop-one", "shop-three"]);
    place.says(&["down"], &["shop-three: removed", "shop-one: removed"])
}

/// Errors of a project, with the words that a user sees.
fn in_the_way() -> Outcome {
    let place = Place::new(SHOP)?;
    let failed = |arguments: &[&str], code: i32, expected: &str| -> Outcome {
        let said = place.mvmctl(arguments).run()?.exits(code)?.err();
        let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("note:")).collect();
        ensure_eq!(said.join("\n"), expected);
        Ok(())
    };
    let no_file = format!(
        "mvmctl: read {}: No such file or directory (os error 2)",
        place.directory.join("app.env").display()
    );
    failed(&["up", "-d"], 1, &no_file)?;
    fs::write(place.directory.join("app.env"), "")?;
    failed(&["up", "-d", "ap"], 2, "mvmctl: there is no VM ap in the file")?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    place.mvmctl(&["run", "-d", "--name", "shop-db", &image, "sleep", "1000"]).run()?.ok()?;
    let said = place.mvmctl(&["up", "-d"]).run()?.exits(7)?.err();
    let expected = "mvmctl: start shop-db: a VM named shop-db exists, and is not of project shop";
    ensure!(said.lines().any(|line| line == expected), "{said}");
    // It is nobody's to remove.
    place.says(&["down"], &[])?;
    ensure_eq!(place.sandbox.vms()?, ["shop-db"]);
    place.mvmctl(&["vm", "rm", "--force", "shop-db"]).run()?.ok()?;

    place.write("[vm.a]\nimage = 'IMAGE'\nnetwork = 'none'\ncommand = 'echo broken; exec sleep 1'\n[vm.b]\nimage = 'IMAGE'\nnetwork = 'none'\nafter = ['a']\nentrypoint = '/no/such'\n")?;
    let said = place.mvmctl(&["up", "--wait"]).run()?.exits(127)?.err();
    let expected = "mvmctl: start shop-b: executing /no/such failed: No such file or directory (os error 2)";
    ensure_eq!(said.lines().last(), Some(expected));
    place.says(&["down"], &["shop-a: removed"])
}

/// The service of `examples/web`, from a Debian image: it is healthy, needs a secret, keeps its data in a volume, and is reached
/// through a port of the host although the guest has no network.
fn python_service() -> Outcome {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let program = include_str!("../../examples/web/serve.py");
    let image = format!("oci:{}:latest", fixtures::debian_python()?.display());
    let text = format!(
        "
[volumes.data]
size = '32m'
[vm.web]
image = '{image}'
network = 'none'
ports = ['{port}:8080']
mounts = ['data:/mnt/data']
[vm.web.secrets]
token = 'file:token'
[vm.web.services.http]
command = ['python3', '-c', '''{program}''']
pre-start = ['chown', 'mvm:mvm', '/mnt/data']
[vm.web.health.http]
service = 'http'
command = ['python3', '-c', '''{program}''', 'check']
interval = 1
start-period = 30
"
    );
    let place = Place::new(&text)?;
    fs::write(place.directory.join("token"), "open sesame\n")?;
    place.says(&["up", "--wait"], &["shop-web: created"])?;
    ensure_eq!(ask(port, "open sesame")?, "visit 1\n");
    ensure_eq!(ask(port, "open")?, "who are you?\n");
    place.says(&["down"], &["shop-web: removed"])?;
    place.says(&["up", "--wait"], &["shop-web: created"])?;
    ensure_eq!(ask(port, "open sesame")?, "visit 2\n");
    place.says(&["up", "-d"], &["shop-web: running"])?;
    place.says(&["down", "-v"], &["shop-web: removed"])?;
    ensure_eq!(place.sandbox.json(["volume", "ls", "--json"])?, serde_json::json!([]));
    Ok(())
}

/// Asks the service, which may not listen yet, and returns the body of its answer.
fn ask(port: u16, token: &str) -> Result<String, Failed> {
    let begin = Instant::now();
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    while begin.elapsed() < Duration::from_secs(60) {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        // Nobody behind the forward is a connection that ends at once.
        let asked = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
        if let (Ok(_), Some((_, body))) = (asked, answer.split_once("\r\n\r\n")) {
            return Ok(body.to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Failed::from(format!("nobody answers on port {port}")))
}
