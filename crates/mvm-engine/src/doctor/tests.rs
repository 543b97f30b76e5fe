use super::*;
use crate::engine::tests::fixture;

fn check(checks: &[Check], name: &str) -> (bool, String) {
    let check = checks.iter().find(|check| check.name == name).unwrap();
    (check.ok, check.found.clone())
}

#[test]
fn no_store_is_made_by_looking() {
    let fixture = fixture();
    let root = fixture.path("none/store");
    let settings = Settings { root: root.clone(), ..fixture.engine.settings.clone() };
    let checks = doctor(&settings);
    assert_eq!(check(&checks, "store"), (true, format!("{} would be created", root.display())));
    assert_eq!(check(&checks, "kernel"), (false, "none imported".to_owned()));
    assert!(!fixture.path("none").exists());

    let settings = &fixture.engine.settings;
    assert_eq!(check(&doctor(settings), "store"), (true, settings.root.display().to_string()));
    std::fs::write(fixture.path("none"), b"").unwrap();
    let below_a_file = Settings { root: fixture.path("none/store"), ..settings.clone() };
    let (ok, found) = check(&doctor(&below_a_file), "store");
    assert!(!ok, "{found}");
    let elsewhere = Settings { root: fixture.directory.path().to_owned(), ..settings.clone() };
    let (ok, found) = check(&doctor(&elsewhere), "store");
    assert!(!ok && found.contains("is not a store"), "{found}");
}

#[test]
fn guests_ask_the_first_server_that_ipv4_reaches() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    let look = || {
        let check = name_server(&file);
        (check.ok, check.found.replace(&file.display().to_string(), "FILE"))
    };
    assert_eq!(look(), (false, "read FILE: No such file or directory (os error 2)".to_owned()));
    let found = |text: &str| {
        std::fs::write(&file, text).unwrap();
        look()
    };
    for (text, server) in [
        ("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", "192.0.2.1"),
        ("# Made by systemd-resolved\nnameserver\t127.0.0.53\noptions edns0\n", "127.0.0.53"),
        (
            "search example\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.2 ",
            "192.0.2.2",
        ),
    ] {
        assert_eq!(found(text), (true, server.to_owned()), "{text:?}");
    }
    for text in ["", "nameserver 2001:db8::1\n", "#nameserver 192.0.2.1\n", "nameserver\n"] {
        assert_eq!(found(text), (false, "FILE names no IPv4 server".to_owned()), "{text:?}");
    }
}

#[test]
fn kvm_is_judged_by_what_a_probe_found() {
    let directory = tempfile::tempdir().unwrap();
    let probe = |usable| Some(Probe { usable, reason: "the guest said nothing".to_owned() });
    let judged = |device: &Path, probe| {
        let check = kvm(device, probe);
        (check.ok, check.found.replace(&device.display().to_string(), "KVM"))
    };
    // What any user may open stands for the device.
    let device = Path::new("/dev/null");
    for (probe, expected) in [
        (None, (true, "KVM can be opened; whether it runs guests is tried at the first launch")),
        (probe(true), (true, "KVM runs guests")),
        (probe(false), (false, "KVM does not run guests: the guest said nothing")),
    ] {
        assert_eq!(judged(device, probe), (expected.0, expected.1.to_owned()));
    }
    let file = directory.path().join("kvm");
    assert_eq!(judged(&file, probe(true)), (false, "KVM does not exist".to_owned()));
    std::fs::write(&file, b"").unwrap();
    assert_eq!(judged(&file, probe(true)), (false, "KVM is not a character device".to_owned()));
}

#[test]
fn what_a_launch_found_about_kvm_is_known_to_the_doctor() {
    let fixture = fixture();
    fixture.program("qemu-system-x86_64", "exit 1");
    fixture.kernel("6.1.0");
    let engine = &fixture.engine;
    let kernel = engine.choose_kernel(None).unwrap();
    assert_eq!(known_probe(&engine.settings, &kernel), None);
    let info = engine.kernel_info(&kernel).unwrap();
    let qemu = mvm_launch::Qemu::find(&engine.settings.program_path).unwrap();
    engine.accelerator(&qemu, &kernel, &info, b"").unwrap();
    assert!(!known_probe(&engine.settings, &kernel).unwrap().usable);
}
