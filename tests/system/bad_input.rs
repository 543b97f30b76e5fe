//! What bad input gets: one line that names the thing and the reason, a documented exit code, nothing half-made.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Output;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;
use rustix::process::Signal;

use crate::{BUSYBOX, Case, GUEST, Outcome, PULL, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "bad_input::names_that_lead_nowhere", needs: PULL, run: nowhere },
    Case { name: "bad_input::no_registry", needs: &[Need::Mvmctl], run: no_registry },
    Case { name: "bad_input::html_is_not_a_registry", needs: &[Need::Mvmctl], run: html },
    Case { name: "bad_input::broken_layouts", needs: &[Need::Mvmctl], run: broken_layouts },
    Case { name: "bad_input::wrong_usage", needs: &[Need::Mvmctl], run: usage },
    Case { name: "bad_input::no_kernel", needs: &[Need::Mvmctl, UMOCI, BUSYBOX], run: no_kernel },
    Case { name: "bad_input::production_policy", needs: GUEST, run: production },
    Case { name: "bad_input::interrupted_pull", needs: &[Need::Mvmctl], run: interrupted },
    Case { name: "bad_input::disk_full", needs: &[Need::Mvmctl, Need::Root, UMOCI, BUSYBOX], run: disk_full },
];

/// Checks an exit code, and that the words are one error that holds these texts.
pub fn refused(output: &Output, code: i32, texts: &[&str]) -> Outcome {
    let words = output.err();
    ensure!(
        output.code() == code,
        "{}: exit code {}, expected {code}: {words}",
        output.command,
        output.code()
    );
    let errors: Vec<&str> = words.lines().filter(|line| line.starts_with("mvmctl: ")).collect();
    ensure!(errors.len() == 1, "{}: not one error line: {words}", output.command);
    for text in texts {
        ensure!(words.contains(text), "{}: {text:?} is not in: {words}", output.command);
    }
    ensure!(output.stdout.is_empty(), "{}: words on stdout: {}", output.command, output.out());
    Ok(())
}

fn nowhere() -> Outcome {
    let registry = Registry::start()?;
    let address = registry.address();
    registry.push(&fixtures::busybox()?, "team/here:latest", &[])?;
    let sandbox = Sandbox::new()?;
    let absent = format!("sha256:{}", "0".repeat(64));
    let table = [
        (format!("{address}/team/absent"), "team/absent"),
        (format!("{address}/team/here:absent"), "absent"),
        (format!("{address}/team/here@{absent}"), &absent[..]),
    ];
    for (image, text) in table {
        refused(&sandbox.mvmctl(["pull", &image]).run()?, 3, &[text])?;
    }
    let image = format!("{address}/team/here");
    let wrong = sandbox.mvmctl(["pull", "--platform", "linux/s390x", &image]).run()?;
    ensure!(wrong.code() != 0, "an image for another platform was pulled");
    refused(&wrong, wrong.code(), &["s390x", "amd64"])?;
    ensure_eq!(sandbox.json(["image", "ls", "--json"])?.as_array().map(Vec::len), Some(0));
    Ok(())
}

fn no_registry() -> Outcome {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let sandbox = Sandbox::new()?;
    let image = format!("127.0.0.1:{port}/team/image");
    refused(&sandbox.mvmctl(["pull", "--retries=0", &image]).run()?, 6, &[&format!("127.0.0.1:{port}")])
}

/// Answers every request on a port of the system's choice; ends with the test program.
fn server(answer: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> std::io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away is no failure of the server.
            drop(stream.and_then(&answer));
        }
    });
    Ok(port)
}

fn html() -> Outcome {
    let port = server(|mut stream| {
        let mut request = [0; 4096];
        if stream.read(&mut request)? == 0 {
            return Ok(());
        }
        let page = "<!DOCTYPE html><html><body>Please log in to the network</body></html>";
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
            page.len()
        )
    })?;
    let sandbox = Sandbox::new()?;
    let output = sandbox.mvmctl(["pull", &format!("127.0.0.1:{port}/team/image")]).run()?;
    refused(&output, 6, &[&format!("127.0.0.1:{port}")])
}

fn broken_layouts() -> Outcome {
    let sandbox = Sandbox::new()?;
    let place = |name: &str| sandbox.path().join(name);
    fs::create_dir(place("empty"))?;
    fs::write(place("file"), "text")?;
    fs::create_dir(place("other"))?;
    fs::write(place("other/oci-layout"), r#"{"imageLayoutVersion": "9.0.0"}"#)?;
    fs::write(place("other/index.json"), r#"{"schemaVersion": 2, "manifests": []}"#)?;
    fs::create_dir(place("none"))?;
    fs::write(place("none/oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#)?;
    fs::write(place("none/index.json"), r#"{"schemaVersion": 2, "manifests": []}"#)?;
    for (kind, name) in [
        ("oci", "absent"),
        ("oci", "empty"),
        ("oci", "file"),
        ("oci", "other"),
        ("oci", "none"),
        ("oci-archive", "file"),
        ("oci-archive", "absent"),
    ] {
        let output = sandbox.mvmctl(["pull"]).arg(format!("{kind}:{}", place(name).display())).run()?;
        ensure!(output.code() != 0, "{kind}:{name} was pulled");
        refused(&output, output.code(), &[name])?;
    }
    Ok(())
}

fn usage() -> Outcome {
    let sandbox = Sandbox::new()?;
    let table: [&[&str]; 7] = [
        &["no-such-verb"],
        &["run"],
        &["pull", "Upper"],
        &["run", "--memory", "lots", "image"],
        &["run", "--name", "bad/name", "image"],
        &["pull", "docker-daemon:image"],
        &["vm", "stop"],
    ];
    for arguments in table {
        // 2 is for the command in the guest to return, as far as `run` goes.
        let code = if arguments[0] == "run" { 125 } else { 2 };
        let output = sandbox.mvmctl(arguments).run()?.exits(code)?;
        ensure!(!output.err().is_empty() && output.stdout.is_empty(), "{arguments:?}: {}", output.out());
    }
    sandbox.mvmctl(["--help"]).run()?.ok()?;
    sandbox.mvmctl(["version"]).run()?.ok()?;
    Ok(())
}

fn no_kernel() -> Outcome {
    let sandbox = Sandbox::new()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let output = sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?;
    refused(&output, 125, &["kernel"])
}

fn production() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let output = sandbox.mvmctl(["run", "--rm", "--policy", "production", &image, "true"]).run()?;
    refused(&output, 125, &[])?;
    let output = sandbox.mvmctl(["run", "--rm", "--policy", "no-such", &image, "true"]).run()?;
    refused(&output, 125, &["no-such"])?;
    let output = sandbox.mvmctl(["run", "--rm", "--pull", "never", "127.0.0.1:1/not/here", "true"]).run()?;
    refused(&output, 125, &["127.0.0.1:1/not/here"])?;
    let log = sandbox.mvmctl(["audit", "tail"]).run()?.ok()?.out();
    ensure!(log.contains("refuse"), "the refusal is not in the audit log:\n{log}");
    Ok(())
}

fn interrupted() -> Outcome {
    // A registry that never answers.
    let port = server(|mut stream| {
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 {}
        Ok(())
    })?;
    let sandbox = Sandbox::new()?;
    let output = sandbox
        .mvmctl(["pull", &format!("127.0.0.1:{port}/team/image")])
        .signal_after(Duration::from_millis(700), Signal::INT)
        .limit(Duration::from_secs(30))
        .run()?;
    ensure_eq!(output.code(), 130);
    ensure_eq!(sandbox.json(["image", "ls", "--json"])?.as_array().map(Vec::len), Some(0));
    Ok(())
}

fn disk_full() -> Outcome {
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let sandbox = Sandbox::new()?;
    fs::create_dir(sandbox.store())?;
    let mount =
        |arguments: &[&str]| mvm_tests::process::Program::new("mount").args(arguments).arg(sandbox.store());
    mount(&["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"]).run()?.ok()?;
    let unmount = Unmount(sandbox.store());
    let output = sandbox.mvmctl(["pull", &image]).run()?;
    refused(&output, output.code(), &["No space left"])?;
    ensure_eq!(sandbox.image_files().unwrap_or_default().len(), 0);
    mount(&["-o", "remount,size=64m"]).run()?.ok()?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    drop(unmount);
    Ok(())
}

/// Unmounts when dropped.
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        if mvm_tests::process::Program::new("umount").arg("-l").arg(&self.0).run().is_err() {
            eprintln!("warning: cannot unmount {}", self.0.display());
        }
    }
}
