//! The guest's network and forwarded ports: what gets through, and what does not.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::holders;
use mvm_tests::sandbox::Sandbox;
use rustix::process::{Pid, Signal};

use crate::bad_input::refused;
use crate::lifecycle::eventually;
use crate::unprivileged::of_user;
use crate::{BUSYBOX, Case, GUEST, MMDEBSTRAP, Outcome, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "user_network::what_a_guest_reaches", needs: GUEST, run: reach },
    Case { name: "user_network::only_what_is_listed", needs: GUEST, run: listed },
    Case { name: "user_network::a_helper_that_dies_comes_back", needs: GUEST, run: helper_dies },
    Case {
        name: "user_network::a_supervisor_that_dies_while_its_helper_starts",
        needs: GUEST,
        run: supervisor_dies,
    },
    Case {
        name: "user_network::of_an_ordinary_user",
        needs: &[Need::Mvmctl, Need::Guest, Need::Root, UMOCI, BUSYBOX],
        run: ordinary_user,
    },
    Case {
        name: "user_network::forwarded_ports",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, MMDEBSTRAP],
        run: forwards,
    },
    Case { name: "user_network::bad_words", needs: &[Need::Mvmctl, UMOCI, BUSYBOX], run: bad_words },
];

/// The user of the tests that need one that is not root.
const USER: u32 = 54_322;

/// Serves `text` over HTTP to whoever asks, on a free port of an address, for as long as the test runs.
fn serve(address: IpAddr, text: &'static str) -> Result<SocketAddr, Failed> {
    let listener = TcpListener::bind((address, 0))?;
    let at = listener.local_addr()?;
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let mut request = [0; 4096];
            if client.read(&mut request).is_ok() {
                let answer = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                drop(client.write_all(answer.as_bytes()));
            }
        }
    });
    Ok(at)
}

/// Returns an address of this machine that others could reach it by.
fn own_address() -> Result<IpAddr, Failed> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("203.0.113.1:9").map_err(|error| format!("this machine has no route: {error}"))?;
    Ok(socket.local_addr()?.ip())
}

fn busybox() -> Result<(Sandbox, String), Failed> {
    Ok((Sandbox::with_kernel()?, format!("oci:{}:latest", fixtures::busybox()?.display())))
}

/// A shell function that says what came of fetching from an address.
const FETCH: &str = "fetch() { echo \"$1: $(wget -qO- http://$1/ 2>&1 | sed 's/.*: //')\"; }; ";

fn reach() -> Outcome {
    let (sandbox, image) = busybox()?;
    let own = own_address()?;
    let (on_loopback, on_own) = (serve(Ipv4Addr::LOCALHOST.into(), "LOOPBACK")?, serve(own, "OWN")?);
    let port = on_loopback.port();
    // The guest is root and may send whatever it likes.
    let script = format!(
        "{FETCH} ifconfig eth0 | grep -o 'addr:[0-9.]*'; cat /etc/resolv.conf; ping -c 1 10.0.2.2 | grep -c 'seq=0'
         fetch {on_own}; fetch 169.254.169.254; fetch 10.0.2.2:{port}; fetch 10.0.2.3:{port}
         ip addr del 127.0.0.1/8 dev lo; ip route del local 127.0.0.0/8 table local
         echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
         ip route add 127.0.0.0/8 via 10.0.2.2; fetch 127.0.0.1:{port}"
    );
    let output = sandbox.mvmctl(["run", "--rm", &image, "sh", "-c", &script]).run()?.ok()?;
    let refused = |what: String| format!("{what}: Connection refused\n");
    let expected = [
        "addr:10.0.2.15\nnameserver 10.0.2.3\n1\n".to_owned(),
        refused(on_own.to_string()),
        refused("169.254.169.254".to_owned()),
        refused(format!("10.0.2.2:{port}")),
        refused(format!("10.0.2.3:{port}")),
    ]
    .concat();
    let (told, last) = output
        .out()
        .split_at_checked(expected.len())
        .map_or_else(|| (output.out(), String::new()), |(told, last)| (told.to_owned(), last.to_owned()));
    ensure_eq!(told, expected);
    // Whichever way its kernel refuses, it is not what the host serves.
    ensure!(last.starts_with("127.0.0.1:") && !last.contains("LOOPBACK"), "{last}");

    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    let denial = log.lines().find(|line| line.contains("\"kind\":\"deny\"")).ok_or("no denial on record")?;
    for tried in [
        format!("tcp {on_own} (an address of the host)"),
        "tcp 169.254.169.254:80 (link-local)".to_owned(),
        format!("tcp 10.0.2.2:{port} (the guest's own network)"),
    ] {
        ensure!(denial.contains(&tried), "{tried} is not in {denial}");
    }
    let (denied, stopped) = (log.find("\"kind\":\"deny\""), log.find("\"kind\":\"stop\""));
    ensure!(denied < stopped, "the end is on record before what the guest tried");

    // Allowed by name of the address.
    let script = format!("{FETCH} fetch {on_own}");
    let allow = format!("--allow-host={on_own}");
    let output = sandbox.mvmctl(["run", "--rm", &allow, &image, "sh", "-c", &script]).run()?.ok()?;
    ensure_eq!(output.out(), format!("{on_own}: OWN\n"));

    let alone = sandbox
        .mvmctl(["run", "--rm", "--network", "none", &image, "sh", "-c", "ls /sys/class/net | grep -v dummy"])
        .run()?
        .ok()?;
    ensure_eq!(alone.out(), "lo\n");
    Ok(())
}

fn listed() -> Outcome {
    let (sandbox, image) = busybox()?;
    let own = own_address()?;
    let (first, second) = (serve(own, "FIRST")?, serve(own, "SECOND")?);
    let script = format!(
        "{FETCH} fetch {first}; fetch {second}; fetch 203.0.113.1; nslookup www.example.com | grep -o NXDOMAIN"
    );
    let egress = format!("--egress=allow={first}");
    let output = sandbox.mvmctl(["run", "--rm", &egress, &image, "sh", "-c", &script]).run()?.ok()?;
    let refused = "Connection refused";
    ensure!(
        output
            .out()
            .starts_with(&format!("{first}: FIRST\n{second}: {refused}\n203.0.113.1: {refused}\nNXDOMAIN")),
        "{}",
        output.out()
    );
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    for tried in [format!("tcp {second} (not allowed by --egress)"), "name www.example.com".to_owned()] {
        ensure!(log.contains(&tried), "{tried} is not in the log:\n{log}");
    }
    // What is allowed is in the plan, and shown.
    let plan = sandbox.mvmctl(["run", "--plan-only", &egress, &image]).run()?.ok()?.out();
    let file = sandbox.path().join("plan");
    std::fs::write(&file, plan)?;
    let shown = sandbox.mvmctl(["plan", "show"]).arg(&file).run()?.ok()?.out();
    ensure!(shown.contains("network.egress"), "{shown}");
    Ok(())
}

/// Returns the network helpers of a store's machines.
fn helpers(sandbox: &Sandbox) -> Result<Vec<u32>, Failed> {
    let all = holders(&sandbox.store())?;
    Ok(all.into_iter().filter(|(_, line)| line.contains("slirp4netns")).map(|(pid, _)| pid).collect())
}

fn helper_dies() -> Outcome {
    let (sandbox, image) = busybox()?;
    let served = serve(own_address()?, "OWN")?;
    let allow = format!("--allow-host={served}");
    sandbox.mvmctl(["run", "-d", "--name", "net", &allow, &image, "sleep", "1000"]).run()?.ok()?;
    let script = format!("{FETCH} fetch {served}");
    let fetch = || -> Result<String, Failed> {
        Ok(sandbox.mvmctl(["exec", "net", "sh", "-c", &script]).run()?.ok()?.out())
    };
    let expected = format!("{served}: OWN\n");
    ensure_eq!(fetch()?, expected);
    let before = helpers(&sandbox)?;
    ensure_eq!(before.len(), 1);
    let pid = Pid::from_raw(before[0].cast_signed()).ok_or("no process")?;
    rustix::process::kill_process(pid, Signal::KILL)?;
    let another = eventually(|| {
        let now = helpers(&sandbox)?;
        Ok(now.len() == 1 && now != before)
    })?;
    ensure!(another, "no other helper has come");
    ensure!(eventually(|| Ok(fetch()? == expected))?, "the guest's network did not come back");
    sandbox.mvmctl(["vm", "rm", "--force", "net"]).run()?.ok()?;
    ensure!(eventually(|| Ok(helpers(&sandbox)?.is_empty()))?, "a helper outlives its machine");
    Ok(())
}

/// Returns the processes that the threads of a process have started and that are still there.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// A helper that nobody has connected to yet is two processes, of which only one dies with its supervisor.
fn supervisor_dies() -> Outcome {
    let (sandbox, image) = busybox()?;
    let state = sandbox.store().join("vms/net/state.json");
    let supervisor = || -> Option<u32> {
        let state: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).ok()?).ok()?;
        u32::try_from(state["supervisor"]["pid"].as_u64()?).ok()
    };
    let helper = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "slirp4netns\n")
    };
    // How long it takes to connect is nobody's to say: what is missed once is tried again.
    for _ in 0..20 {
        let run = ["run", "-d", "--name", "net", &image, "sleep", "1000"];
        let mut launch = sandbox.mvmctl(run).spawn(Stdio::null(), Stdio::null())?;
        let mut met = false;
        while !met && launch.try_wait()?.is_none() {
            let Some(pid) = supervisor() else { continue };
            met = children(pid).iter().filter(|pid| helper(pid)).any(|pid| !children(*pid).is_empty());
            if met {
                let pid = Pid::from_raw(pid.cast_signed()).ok_or("no process")?;
                rustix::process::kill_process(pid, Signal::KILL)?;
            }
        }
        launch.wait()?;
        if met {
            ensure!(sandbox.vms()?.len() <= 1, "more than one VM");
            ensure!(eventually(|| Ok(holders(&sandbox.store())?.is_empty()))?, "half a helper is left");
            ensure!(!sandbox.store().join("vms/net/network").exists(), "its directory is left");
            return Ok(());
        }
        sandbox.mvmctl(["vm", "rm", "--force", "net"]).run()?.ok()?;
    }
    Err("no helper was met before it was connected to".into())
}

fn ordinary_user() -> Outcome {
    let (sandbox, image) = of_user(USER)?;
    let own = own_address()?;
    let (on_loopback, on_own) = (serve(Ipv4Addr::LOCALHOST.into(), "LOOPBACK")?, serve(own, "OWN")?);
    let port = on_loopback.port();
    let script = format!("{FETCH} fetch {on_own}; fetch 10.0.2.2:{port}");
    let allow = format!("--allow-host={on_own}");
    let output = sandbox.mvmctl(["run", "--rm", &allow, &image, "sh", "-c", &script]).run()?.ok()?;
    ensure_eq!(output.out(), format!("{on_own}: OWN\n10.0.2.2:{port}: Connection refused\n"));
    Ok(())
}

/// Returns what a connection to a port gives for what is sent, each side ending in its turn.
fn converse(port: u16, sent: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut writer = client.try_clone()?;
    let sent = sent.to_vec();
    let writing =
        std::thread::spawn(move || writer.write_all(&sent).and_then(|()| writer.shutdown(Shutdown::Write)));
    let mut heard = Vec::new();
    client.read_to_end(&mut heard)?;
    writing.join().map_err(|_| std::io::Error::other("the writer panicked"))??;
    Ok(heard)
}

/// Echoes on port 7, over TCP to each side's end; accepts on port 9 and reads nothing; answers over HTTP on port 80.
const SERVICES: &str = r#"
import socket, threading
def start(act, *arguments):
    threading.Thread(target=act, args=arguments).start()
def echo(client):
    while data := client.recv(65536):
        client.sendall(data)
    client.close()
def answer(client):
    client.recv(4096)
    client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + socket.gethostname().encode())
    client.close()
def serve(address, port, act):
    listener = socket.create_server((address, port), backlog=256)
    while True:
        start(act, listener.accept()[0])
held = []
start(serve, "127.0.0.1", 7, echo)
start(serve, "", 9, held.append)
start(serve, "", 80, answer)
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", 7))
while True:
    datagrams.sendto(*datagrams.recvfrom(65536))
"#;

fn forwards() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::debian_python()?.display());
    // Free a moment ago.
    let fixed = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mapping = format!("{fixed}:7");
    let ports = ["-p", &mapping, "-p", "7/udp", "-p", "8-9", "-p", "80"];
    let arguments = ["run", "-d", "--name", "served", "--network", "none"];
    let command = [image.as_str(), "python3", "-c", SERVICES];
    sandbox.mvmctl(arguments.iter().chain(&ports).chain(&command)).run()?.ok()?;
    let details = sandbox.json(["vm", "inspect", "served", "--json"])?;
    // As 127.0.0.1:HOST->GUEST/PROTOCOL.
    let host = |index: usize| -> Result<u16, Failed> {
        let shown = details["ports"][index].as_str().unwrap_or_default();
        let address = shown.split_once("->").ok_or_else(|| format!("{shown:?} shows no port"))?.0;
        Ok(address.parse::<SocketAddr>()?.port())
    };
    ensure_eq!(host(0)?, fixed);
    let (udp, unserved, silent, http) = (host(1)?, host(2)?, host(3)?, host(4)?);

    ensure!(
        eventually(|| Ok(converse(fixed, b"up").is_ok_and(|heard| heard == b"up")))?,
        "nothing is served"
    );
    // More than every buffer on the way; the end goes one way at a time.
    let data: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let heard = converse(fixed, &data)?;
    ensure!(heard == data, "{} bytes went in, {} came back", data.len(), heard.len());
    let many: Vec<_> = (0..200_u32)
        .map(|number| std::thread::spawn(move || converse(fixed, &number.to_le_bytes())))
        .collect();
    for (number, one) in (0..200_u32).zip(many) {
        ensure_eq!(one.join().map_err(|_| "a client panicked")??, number.to_le_bytes());
    }

    let page = converse(http, b"GET / HTTP/1.0\r\n\r\n")?;
    ensure!(page.ends_with(b"\r\n\r\nserved"), "{}", String::from_utf8_lossy(&page));

    // A port that nobody serves, and one that is served by someone who reads nothing and says nothing.
    ensure!(converse(unserved, b"x").is_err(), "a port without a service answers");
    let mut stuck = TcpStream::connect((Ipv4Addr::LOCALHOST, silent))?;
    stuck.set_write_timeout(Some(Duration::from_secs(2)))?;
    let mut taken = 0;
    while let Ok(count) = stuck.write(&data) {
        taken += count;
        ensure!(taken < 64 << 20, "somebody on the way holds {taken} bytes");
    }
    ensure_eq!(converse(fixed, b"meanwhile")?, b"meanwhile");

    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut buffer = vec![0; 65_536];
    for datagram in [&b"one"[..], &[7; 40_000]] {
        let echoed = || {
            client.send_to(datagram, (Ipv4Addr::LOCALHOST, udp))?;
            Ok(client.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *datagram))
        };
        ensure!(eventually(echoed)?, "no answer to {} bytes", datagram.len());
    }

    // It is told before anything boots that the port has an owner.
    let again =
        sandbox.mvmctl(["run", "--name", "late", "-p", &format!("{fixed}:7"), &image, "true"]).run()?;
    refused(&again, 125, &[&format!("tcp port 127.0.0.1:{fixed} is in use")])?;
    sandbox.mvmctl(["vm", "rm", "--force", "served"]).run()?.ok()?;
    drop(TcpListener::bind((Ipv4Addr::LOCALHOST, fixed))?);
    Ok(())
}

fn bad_words() -> Outcome {
    let (sandbox, image) = (Sandbox::new()?, format!("oci:{}:latest", fixtures::busybox()?.display()));
    let cases: [(&[&str], &[&str]); 8] = [
        (&["-p", "80:"], &["80:", "is not [[IP:]HOST:]GUEST[/tcp|/udp]"]),
        (&["-p", "80/sctp"], &["names another protocol than tcp or udp"]),
        (&["-p", "1-3:1-2"], &["has two ranges of different length"]),
        (&["--egress", "deny"], &["write allow=HOST[:PORT],… or none"]),
        (&["--egress", "allow=::1"], &["is an IPv6 address, and guests have IPv4 only"]),
        (&["--egress", "allow=127.0.0.1:80"], &["127.0.0.1 is the host's loopback, which no guest reaches"]),
        (
            &["--egress", "allow=nowhere.invalid"],
            &["--egress nowhere.invalid: cannot look up nowhere.invalid"],
        ),
        (
            &["--network", "none", "--egress", "none"],
            &["leaves nothing for --egress and --allow-host to allow"],
        ),
    ];
    for (options, words) in cases {
        let output = sandbox.mvmctl(["run"].iter().chain(options).chain(&[image.as_str()])).run()?;
        for word in words {
            ensure!(output.err().contains(word), "{word:?} is not in: {}", output.err());
        }
        ensure_eq!(output.exits(125)?.out(), "");
    }
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    Ok(())
}
