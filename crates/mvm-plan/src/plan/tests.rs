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
        process: Process {
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), "echo \"ü\"\n".to_owned()],
            env: vec!["PATH=/bin".to_owned(), "EMPTY=".to_owned()],
            working_dir: "/".to_owned(),
            user: "1000:1000".to_owned(),
            stop_signal: Signal::TERM,
            tty: false,
            stdin: true,
        },
        hostname: "web".to_owned(),
        resources: Resources { cpus: 2, memory_mib: 512, scratch_mib: 8192, scratch: Scratch::Disk },
        network: Network::None,
        isolation: RequiredIsolation::Any,
        validity: Validity { not_before: 1_700_000_000, not_after: 1_700_086_400 },
        single_use: false,
    }
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
        ("no environment", |p| p.process.env.clear()),
        ("empty argument", |p| p.process.argv.push(String::new())),
        ("longest argument", |p| p.process.argv.push("a".repeat(131_071))),
        ("most arguments", |p| p.process.argv.resize(4096, "a".to_owned())),
        ("control characters in an argument", |p| p.process.argv.push("\u{1b}[0m\r\n".to_owned())),
        ("a variable twice", |p| p.process.env.push("PATH=/sbin".to_owned())),
        ("image's user", |p| p.process.user = String::new()),
        ("user by name", |p| p.process.user = "www-data:adm".to_owned()),
        ("one byte per unit", |p| p.hostname = "a".repeat(64)),
        ("no kernel version", |p| p.kernel.version = String::new()),
        ("largest", |p| {
            p.resources =
                Resources { cpus: 1024, memory_mib: 1 << 24, scratch_mib: 1 << 30, scratch: Scratch::Tmpfs }
        }),
        ("a gap before the superblock", |p| (p.root.hash_start, p.root.size) = (16_384, 24_576)),
        ("image by tag", |p| {
            let Source::Oci { requested, mutable_tag, .. } = &mut p.source;
            (*requested, *mutable_tag) = ("oci:dir:tag".parse().unwrap(), true);
        }),
        ("variant", |p| {
            let Source::Oci { platform, .. } = &mut p.source;
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
        (
            |p| {
                let Source::Oci { platform, .. } = &mut p.source;
                *platform = Platform::new("linux", "AMD 64", None);
            },
            "plan: source.platform",
        ),
        (
            |p| {
                let Source::Oci { platform, .. } = &mut p.source;
                *platform = Platform::new("linux", "arm64/v8", None);
            },
            "plan: source.platform \"linux/arm64/v8\" is not OS/ARCH or OS/ARCH/VARIANT",
        ),
        (
            |p| {
                let Source::Oci { requested, .. } = &mut p.source;
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

#[test]
fn what_a_process_may_not_hold_is_named() {
    refused(&[
        (|p| p.process.argv.clear(), "plan: process.argv has 0 items; expected 1 to 4096"),
        (
            |p| p.process.argv.resize(4097, String::new()),
            "plan: process.argv has 4097 items; expected 1 to 4096",
        ),
        (|p| p.process.argv[0].clear(), "plan: process.argv \"\" is not a list that starts with a program"),
        (|p| p.process.argv[1] = "a\0b".to_owned(), "plan: process.argv holds the character '\\0' at byte 1"),
        (
            |p| p.process.argv.push("a".repeat(131_072)),
            "plan: process.argv has 131072 bytes; expected 0 to 131071",
        ),
        (
            |p| p.process.env.resize(5000, "A=".to_owned()),
            "plan: process.env has 5000 items; expected 0 to 4096",
        ),
        (|p| p.process.env.push("A".to_owned()), "plan: process.env \"A\" is not of the form NAME=VALUE"),
        (|p| p.process.env.push("=A".to_owned()), "plan: process.env \"=A\" is not of the form NAME=VALUE"),
        (|p| p.process.env.push("A=\0".to_owned()), "plan: process.env holds the character '\\0' at byte 2"),
        (
            |p| {
                p.process.argv.push("a".repeat(131_071));
                p.process.env.push(format!("A={}", "a".repeat(131_069)));
            },
            "plan: process.argv and process.env has 262183 bytes; expected 0 to 262144",
        ),
        (|p| p.process.working_dir.clear(), "plan: process.working_dir has 0 bytes; expected 1 to 4095"),
        (
            |p| p.process.working_dir = "srv".to_owned(),
            "plan: process.working_dir \"srv\" is not an absolute path",
        ),
        (
            |p| p.process.working_dir = "/\0".to_owned(),
            "plan: process.working_dir holds the character '\\0' at byte 1",
        ),
        (
            |p| p.process.user = "a:b:c".to_owned(),
            "plan: process.user \"a:b:c\" is not of the form USER or USER:GROUP",
        ),
        (
            |p| p.process.user = ":b".to_owned(),
            "plan: process.user \":b\" is not of the form USER or USER:GROUP",
        ),
        (
            |p| p.process.user = "a:".to_owned(),
            "plan: process.user \"a:\" is not of the form USER or USER:GROUP",
        ),
        (|p| p.process.user = "a\n".to_owned(), "plan: process.user holds the character '\\n' at byte 1"),
    ]);
}
