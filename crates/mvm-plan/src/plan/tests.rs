use super::*;
use crate::canonical::{self, CanonicalError};

/// The canonical text of [`sample`], frozen: a change to it is another plan format.
const GOLDEN: &[u8] = include_bytes!("golden-v1.json");

pub(crate) fn digest(byte: u8) -> Digest {
    Digest::from_sha256([byte; 32])
}

/// A plan that every rule of every policy lets through at second 1,700,000,100 under kvm.
pub(crate) fn sample() -> Plan {
    Plan {
        schema: Schema::V1,
        workload: "web".parse().unwrap(),
        scope: ScopeName::default(),
        posture: Posture::Compatible,
        source: Source::Oci {
            requested: format!("docker.io/library/debian@{}", digest(0x66)).parse().unwrap(),
            manifest: digest(0x11),
            config: digest(0x22),
            platform: Platform::new("linux", "amd64", None),
            mutable_tag: false,
        },
        root: Root {
            root_hash: digest(0x33),
            generation: 1,
            data_blocks: 3,
            hash_start: 12_288,
            size: 20_480,
            fs: FileSystem::Erofs,
        },
        kernel: Kernel { digest: digest(0x44), version: "6.1.0".to_owned(), record: None },
        initramfs: Initramfs { digest: digest(0x55) },
        process: Some(Process {
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), "echo \"ü\"\n".to_owned()],
            env: vec!["PATH=/bin".to_owned(), "EMPTY=".to_owned()],
            working_dir: "/".to_owned(),
            user: "1000:1000".to_owned(),
            stop_signal: Signal::TERM,
            tty: false,
            stdin: true,
        }),
        services: Vec::new(),
        health_checks: Vec::new(),
        users: Vec::new(),
        service_group: None,
        writable_store: None,
        mounts: Vec::new(),
        secrets: Vec::new(),
        hostname: "web".to_owned(),
        resources: Resources { cpus: 2, memory_mib: 512, scratch_mib: 8192, scratch: Scratch::Disk },
        network: Network::None,
        ports: Vec::new(),
        isolation: RequiredIsolation::Any,
        validity: Validity { not_before: 1_700_000_000, not_after: 1_700_086_400 },
        single_use: false,
    }
}

/// Returns the plan's process, to change it.
fn main(plan: &mut Plan) -> &mut Process {
    plan.process.as_mut().unwrap()
}

#[test]
fn the_golden_text_is_the_sample() {
    let text = canonical::to_vec(&sample()).unwrap();
    assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(GOLDEN).trim_end());
    assert_eq!(canonical::from_slice::<Plan>(&text).unwrap(), sample());
    assert_eq!(sample().validate(), Ok(()));
}

#[test]
fn unknown_members_are_refused_at_every_depth() {
    let text = String::from_utf8(canonical::to_vec(&sample()).unwrap()).unwrap();
    let objects = text.match_indices('{').count();
    assert_eq!(objects, 9);
    for (position, _) in text.match_indices('{') {
        for member in [r#""A":1,"#, r#""trusted":true,"#] {
            let mut more = text.clone();
            more.insert_str(position + 1, member);
            match canonical::from_slice::<Plan>(more.as_bytes()) {
                Err(CanonicalError::Parse(_) | CanonicalError::NotCanonical { .. }) => {}
                other => panic!("{more}: {other:?}"),
            }
        }
    }
}

#[test]
fn other_versions_kinds_and_missing_members_are_refused() {
    let text = String::from_utf8(canonical::to_vec(&sample()).unwrap()).unwrap();
    let table = [
        ("mvm.plan.v1", "mvm.plan.v2"),
        (r#""kind":"none""#, r#""kind":"host""#),
        (r#""kind":"oci""#, r#""kind":"nix""#),
        (r#""kind":"oci","#, ""),
        (r#""posture":"compatible","#, ""),
        (r#""isolation":"any""#, r#""isolation":"none""#),
        (r#""fs":"erofs""#, r#""fs":"ext4""#),
        (r#""cpus":2"#, r#""cpus":-2"#),
        (r#""cpus":2"#, r#""cpus":2.0"#),
        (r#""cpus":2"#, r#""cpus":4294967297"#),
        (r#""scope":"default""#, r#""scope":"../x""#),
        ("linux/amd64", "linux"),
        ("SIGTERM", "SIGNONE"),
        ("sha256:11", "sha512:11"),
    ];
    for (from, to) in table {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert!(
            matches!(canonical::from_slice::<Plan>(changed.as_bytes()), Err(CanonicalError::Parse(_))),
            "{to}"
        );
    }
    // Another spelling of the same signal is another text of the same plan.
    let changed = text.replacen("SIGTERM", "term", 1);
    let read = canonical::from_slice::<Plan>(changed.as_bytes());
    assert!(matches!(read, Err(CanonicalError::NotCanonical { .. })), "{read:?}");
}

#[test]
fn a_plan_for_one_launch_says_so_and_others_nothing() {
    let once = Plan { single_use: true, ..sample() };
    let text = String::from_utf8(canonical::to_vec(&once).unwrap()).unwrap();
    assert!(text.contains(r#""single_use":true"#), "{text}");
    assert_eq!(canonical::from_slice::<Plan>(text.as_bytes()).unwrap(), once);
    // Earlier versions wrote no such member, and its absence has one text.
    let spelt = text.replace(r#""single_use":true"#, r#""single_use":false"#);
    let read = canonical::from_slice::<Plan>(spelt.as_bytes());
    assert!(matches!(read, Err(CanonicalError::NotCanonical { .. })), "{read:?}");
}

#[test]
fn requested_images_are_one_line() {
    for text in ["debian", "localhost:5000/a@sha256:00", "oci:dir with spaces:tag", "ü"] {
        assert_eq!(text.parse::<RequestedImage>().map(|image| image.to_string()), Ok(text.to_owned()));
    }
    let field = "source.requested";
    let long = "a".repeat(1025);
    let table = [
        ("", PlanError::Length { field, got: 0, min: 1, max: 1024 }),
        (&long, PlanError::Length { field, got: 1025, min: 1, max: 1024 }),
        ("a\nb", PlanError::Character { field, offset: 1, got: '\n' }),
        ("ab\u{9b}", PlanError::Character { field, offset: 2, got: '\u{9b}' }),
    ];
    for (text, expected) in table {
        assert_eq!(text.parse::<RequestedImage>(), Err(expected), "{text:?}");
    }
}

type Change = fn(&mut Plan);

#[test]
fn what_linux_allows_is_valid() {
    let table: &[(&str, Change)] = &[
        ("no environment", |p| main(p).env.clear()),
        ("empty argument", |p| main(p).argv.push(String::new())),
        ("longest argument", |p| main(p).argv.push("a".repeat(131_071))),
        ("most arguments", |p| main(p).argv.resize(4096, "a".to_owned())),
        ("control characters in an argument", |p| main(p).argv.push("\u{1b}[0m\r\n".to_owned())),
        ("a variable twice", |p| main(p).env.push("PATH=/sbin".to_owned())),
        ("image's user", |p| main(p).user = String::new()),
        ("user by name", |p| main(p).user = "www-data:adm".to_owned()),
        ("one byte per unit", |p| p.hostname = "a".repeat(64)),
        ("no kernel version", |p| p.kernel.version = String::new()),
        ("largest", |p| {
            p.resources =
                Resources { cpus: 1024, memory_mib: 1 << 24, scratch_mib: 1 << 30, scratch: Scratch::Tmpfs }
        }),
        ("a gap before the superblock", |p| (p.root.hash_start, p.root.size) = (16_384, 24_576)),
        ("image by tag", |p| {
            let Source::Oci { requested, mutable_tag, .. } = &mut p.source else { panic!("an OCI image") };
            (*requested, *mutable_tag) = ("oci:dir:tag".parse().unwrap(), true);
        }),
        ("flake", |p| {
            p.source = flake(Some(Digest::of(b"lock")), "x.drv");
            p.posture = Posture::Reproducible;
        }),
        ("flake without a lock file", |p| {
            p.source = flake(None, "x.drv");
            p.posture = Posture::Reproducible;
        }),
        ("variant", |p| {
            let Source::Oci { platform, .. } = &mut p.source else { panic!("an OCI image") };
            *platform = Platform::new("linux", "arm64", Some("v8"));
        }),
        ("turned validity, which is policy's to judge", |p| {
            p.validity = Validity { not_before: 1, not_after: 0 }
        }),
    ];
    for (name, change) in table {
        let mut plan = sample();
        change(&mut plan);
        assert_eq!(plan.validate(), Ok(()), "{name}");
        let text = canonical::to_vec(&plan).unwrap();
        assert_eq!(canonical::from_slice::<Plan>(&text).unwrap(), plan, "{name}");
    }
}

fn flake(lock: Option<Digest>, derivation: &str) -> Source {
    Source::Flake {
        requested: "flake:/src#web".parse().unwrap(),
        manifest: Digest::of(b"manifest"),
        config: Digest::of(b"config"),
        platform: Platform::new("linux", "amd64", None),
        derivation: format!("/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-{derivation}").parse().unwrap(),
        lock,
    }
}

fn refused(table: &[(Change, &str)]) {
    for (change, expected) in table {
        let mut plan = sample();
        change(&mut plan);
        assert_eq!(plan.validate().map_err(|error| error.to_string()), Err((*expected).to_owned()));
    }
}

#[test]
fn what_a_plan_may_not_hold_is_named() {
    refused(&[
        (
            |p| p.posture = Posture::Reproducible,
            "plan: posture Reproducible does not fit a source of kind oci",
        ),
        (|p| p.source = flake(None, "x.drv"), "plan: posture Compatible does not fit a source of kind flake"),
        (
            |p| {
                p.source = flake(None, "x");
                p.posture = Posture::Reproducible;
            },
            "plan: source.derivation \"/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-x\" is not the store path of a derivation, which ends with .drv",
        ),
        (
            |p| {
                let Source::Oci { platform, .. } = &mut p.source else { panic!("an OCI image") };
                *platform = Platform::new("linux", "AMD 64", None);
            },
            "plan: source.platform",
        ),
        (
            |p| {
                let Source::Oci { platform, .. } = &mut p.source else { panic!("an OCI image") };
                *platform = Platform::new("linux", "arm64/v8", None);
            },
            "plan: source.platform \"linux/arm64/v8\" is not OS/ARCH or OS/ARCH/VARIANT",
        ),
        (
            |p| {
                let Source::Oci { requested, .. } = &mut p.source else { panic!("an OCI image") };
                *requested = "debian:12".parse().unwrap();
            },
            "plan: source.requested \"debian:12\" names no digest, so source.mutable_tag cannot be false",
        ),
        (|p| p.root.generation = 0, "plan: root.generation is 0; generations start at 1"),
        (|p| p.root.data_blocks = 0, "plan: root.data_blocks is 0; an image has at least one block"),
        (
            |p| p.root.data_blocks = 4,
            "plan: root.hash_start is 12288; the verity superblock lies after the data blocks",
        ),
        (
            |p| p.root.data_blocks = u64::MAX,
            "plan: root.hash_start is 12288; the verity superblock lies after the data blocks",
        ),
        (
            |p| p.root.hash_start += 1,
            "plan: root.hash_start is 12289; the verity superblock lies at a multiple of 4096",
        ),
        (
            |p| p.root.size = 12_288,
            "plan: root.size is 12288; the file ends after the verity superblock, at a multiple of 4096",
        ),
        (
            |p| p.root.size -= 1,
            "plan: root.size is 20479; the file ends after the verity superblock, at a multiple of 4096",
        ),
        (|p| p.kernel.version.push('\n'), "plan: kernel.version holds the character '\\n' at byte 5"),
        (|p| p.kernel.version = "6".repeat(257), "plan: kernel.version has 257 bytes; expected 0 to 256"),
        (|p| p.hostname.clear(), "plan: hostname has 0 bytes; expected 1 to 64"),
        (|p| p.hostname = "a".repeat(65), "plan: hostname has 65 bytes; expected 1 to 64"),
        (
            |p| p.hostname = "-a".to_owned(),
            "plan: hostname \"-a\" is not letters, digits, '-', '_' and '.', a letter or digit first",
        ),
        (
            |p| p.hostname = "a b".to_owned(),
            "plan: hostname \"a b\" is not letters, digits, '-', '_' and '.', a letter or digit first",
        ),
        (|p| p.resources.cpus = 0, "plan: resources.cpus is 0; expected 1 to 1024"),
        (|p| p.resources.memory_mib = 15, "plan: resources.memory_mib is 15; expected 16 to 16777216"),
        (|p| p.resources.scratch_mib = 0, "plan: resources.scratch_mib is 0; expected 1 to 1073741824"),
        (
            |p| p.validity.not_before = -1,
            "plan: validity.not_before is -1, which is not a second of the years 1970 to 9999",
        ),
        (
            |p| p.validity.not_after = 253_402_300_800,
            "plan: validity.not_after is 253402300800, which is not a second of the years 1970 to 9999",
        ),
    ]);
}

/// Returns a plan's service, as plain as can be.
fn service(name: &str) -> Service {
    Service {
        name: name.parse().unwrap(),
        process: Process { user: "mvm".to_owned(), stdin: false, ..sample().process.unwrap() },
        pre_start: Vec::new(),
        after: Vec::new(),
        restart: Restart::Always,
        log_file: None,
        stop_grace_secs: 10,
        limits: ServiceLimits::default(),
    }
}

fn health_check(name: &str) -> HealthCheck {
    HealthCheck {
        name: name.parse().unwrap(),
        service: None,
        process: sample().process.unwrap(),
        interval_secs: 30,
        timeout_secs: 10,
        start_period_secs: 0,
        retries: 3,
    }
}

fn mount(target: &str, name: &str) -> Mount {
    let source = MountSource::Volume { name: name.parse().unwrap() };
    Mount { target: target.to_owned(), source, read_only: false }
}

fn image(target: &str, read_only: bool) -> Mount {
    let source = MountSource::Image { root: sample().root };
    Mount { target: target.to_owned(), source, read_only }
}

fn port(host: u16, guest: u16) -> Port {
    Port { address: [127, 0, 0, 1].into(), host, guest, protocol: Protocol::Tcp }
}

#[test]
fn what_a_guest_may_do_beside_its_process() {
    let mut plan = sample();
    plan.process = None;
    plan.services = vec![service("web"), service("db")];
    plan.services[0].after = vec!["db".parse().unwrap()];
    plan.services[0].limits.pids = Some(10);
    plan.health_checks = vec![HealthCheck { service: Some("web".parse().unwrap()), ..health_check("http") }];
    let group = Group { name: "ann".parse().unwrap(), gid: 1000 };
    plan.users = vec![User { name: "ann".parse().unwrap(), uid: 1000, group, home: "/home/ann".to_owned() }];
    plan.service_group = Some(Group::service());
    plan.mounts = vec![mount("/mnt/data", "data"), image("/src", true), image("/again", true)];
    plan.secrets = vec!["token".parse().unwrap()];
    let rule = EgressRule {
        host: "example.org".to_owned(),
        port: Some(443),
        addresses: vec![[192, 0, 2, 1].into()],
    };
    plan.network = Network::User { egress: Some(vec![rule]), host: Vec::new() };
    plan.ports = vec![port(8080, 80), port(0, 80), port(0, 81)];
    assert_eq!(plan.validate(), Ok(()));
    let text = canonical::to_vec(&plan).unwrap();
    assert_eq!(canonical::from_slice::<Plan>(&text).unwrap(), plan);
}

#[test]
fn what_a_guest_may_not_do_beside_its_process_is_named() {
    refused(&[
        (|p| p.process = None, "plan: process \"\" is not there, or a service in its place"),
        (
            |p| p.services = vec![service("web"), service("web")],
            "plan: services.name \"web\" is not used once only",
        ),
        (
            |p| {
                p.services = vec![service("web")];
                p.services[0].process.user = "000:5".to_owned();
            },
            "plan: services.process \"web\" is not a user that is not root, with neither terminal nor input",
        ),
        (
            |p| {
                p.services = vec![service("a"), service("b")];
                p.services[0].after = vec!["b".parse().unwrap()];
                p.services[1].after = vec!["a".parse().unwrap()];
            },
            "plan: services.after \"a\" is not an order: it leads back to itself",
        ),
        (
            |p| {
                p.services = vec![service("a")];
                p.services[0].after = vec!["b".parse().unwrap()];
            },
            "plan: services.after \"b\" is not the name of a service",
        ),
        (
            |p| p.health_checks = vec![HealthCheck { timeout_secs: 0, ..health_check("x") }],
            "plan: health_checks.timeout_secs is 0; expected 1 to 86400",
        ),
        (
            |p| p.mounts = vec![mount("/data", "a"), mount("/other", "a")],
            "plan: mounts.source.name \"a\" is not used once only",
        ),
        (
            |p| p.mounts = vec![image("/src", false)],
            "plan: mounts.source \"image\" is not something that can be written",
        ),
        (
            |p| {
                p.mounts = vec![image("/src", true)];
                if let MountSource::Image { root } = &mut p.mounts[0].source {
                    root.data_blocks = 0;
                }
            },
            "plan: mounts.source.root.data_blocks is 0; an image has at least one block",
        ),
        (
            |p| p.mounts = vec![mount("/proc/1", "a")],
            "plan: mounts.target \"/proc/1\" is not a path of plain names below /, outside /proc, /sys, /dev and /mnt/secrets",
        ),
        (
            |p| p.mounts = vec![mount("/a/../b", "a")],
            "plan: mounts.target \"/a/../b\" is not a path of plain names below /, outside /proc, /sys, /dev and /mnt/secrets",
        ),
        (|p| p.ports = vec![port(80, 0)], "plan: ports.guest is 0; expected 1 to 65535"),
        (
            |p| p.ports = vec![port(80, 1), port(80, 2)],
            "plan: ports.host \"80\" is not a port that is used once",
        ),
        (
            |p| {
                let rule = EgressRule { host: "a".to_owned(), port: None, addresses: Vec::new() };
                p.network = Network::User { egress: None, host: vec![rule] };
            },
            "plan: network.host has 0 items; expected 1 to 64",
        ),
    ]);
}

#[test]
fn what_a_process_may_not_hold_is_named() {
    refused(&[
        (|p| main(p).argv.clear(), "plan: process.argv has 0 items; expected 1 to 4096"),
        (
            |p| main(p).argv.resize(4097, String::new()),
            "plan: process.argv has 4097 items; expected 1 to 4096",
        ),
        (|p| main(p).argv[0].clear(), "plan: process.argv \"\" is not a list that starts with a program"),
        (|p| main(p).argv[1] = "a\0b".to_owned(), "plan: process.argv holds the character '\\0' at byte 1"),
        (
            |p| main(p).argv.push("a".repeat(131_072)),
            "plan: process.argv has 131072 bytes; expected 0 to 131071",
        ),
        (
            |p| main(p).env.resize(5000, "A=".to_owned()),
            "plan: process.env has 5000 items; expected 0 to 4096",
        ),
        (|p| main(p).env.push("A".to_owned()), "plan: process.env \"A\" is not of the form NAME=VALUE"),
        (|p| main(p).env.push("=A".to_owned()), "plan: process.env \"=A\" is not of the form NAME=VALUE"),
        (|p| main(p).env.push("A=\0".to_owned()), "plan: process.env holds the character '\\0' at byte 2"),
        (
            |p| {
                main(p).argv.push("a".repeat(131_071));
                main(p).env.push(format!("A={}", "a".repeat(131_069)));
            },
            "plan: process.argv and process.env has 262183 bytes; expected 0 to 262144",
        ),
        (|p| main(p).working_dir.clear(), "plan: process.working_dir has 0 bytes; expected 1 to 4095"),
        (
            |p| main(p).working_dir = "srv".to_owned(),
            "plan: process.working_dir \"srv\" is not an absolute path",
        ),
        (
            |p| main(p).working_dir = "/\0".to_owned(),
            "plan: process.working_dir holds the character '\\0' at byte 1",
        ),
        (
            |p| main(p).user = "a:b:c".to_owned(),
            "plan: process.user \"a:b:c\" is not of the form USER or USER:GROUP",
        ),
        (
            |p| main(p).user = ":b".to_owned(),
            "plan: process.user \":b\" is not of the form USER or USER:GROUP",
        ),
        (
            |p| main(p).user = "a:".to_owned(),
            "plan: process.user \"a:\" is not of the form USER or USER:GROUP",
        ),
        (|p| main(p).user = "a\n".to_owned(), "plan: process.user holds the character '\\n' at byte 1"),
    ]);
}
