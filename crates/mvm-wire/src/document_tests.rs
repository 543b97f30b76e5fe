use super::*;

fn document() -> GuestDocument {
    GuestDocument {
        schema: Schema::V1,
        hostname: "web-1".into(),
        roots: vec![Root {
            name: "root".into(),
            disk: "root".into(),
            filesystem: Filesystem::Erofs,
            verity: Verity {
                root_hash: Hex::new([7; 32]),
                salt: Hex::default(),
                data_blocks: 10,
                hash_start_block: 10,
                algorithm: HashAlgorithm::Sha256,
                block_size: 4096,
            },
            overlay: Overlay::Disk { serial: "scratch".into() },
        }],
        processes: vec![Process {
            name: "main".into(),
            root: "root".into(),
            argv: vec!["/bin/true".into()],
            env: vec!["A=b=c".into(), "EMPTY=".into()],
            working_dir: String::new(),
            user: String::new(),
            stop_signal: 15,
            terminal: false,
        }],
        services: vec![],
        health_checks: vec![],
        users: vec![],
        service_group: None,
        writable_store: None,
        mounts: vec![],
        secrets: vec![],
        interface: None,
    }
}

#[test]
fn reads_what_it_writes() {
    let bytes = document().to_bytes().unwrap();
    assert_eq!(GuestDocument::parse(&bytes).unwrap(), document());
    assert_eq!(document().to_bytes().unwrap(), bytes);
}

#[test]
fn refuses_unknown_fields_and_large_documents() {
    let text = String::from_utf8(document().to_bytes().unwrap()).unwrap();
    for (from, to) in [
        (r#""hostname""#, r#""motd":"","hostname""#),
        (r#""argv""#, r#""shell":true,"argv""#),
        (r#""serial""#, r#""sise":1,"serial""#),
        (r#""salt""#, r#""pepper":"","salt""#),
        ("mvm.guest.v1", "mvm.guest.v2"),
        ("0707", "0Z07"),
        ("0707", "070"),
        ("sha256", "md5"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = GuestDocument::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert!(matches!(error, DocumentError::Parse(_)), "{to}: {error}");
    }
    let large = vec![b' '; MAX_DOCUMENT + 1];
    assert!(matches!(GuestDocument::parse(&large), Err(DocumentError::TooLarge { got: 1_048_577 })));
}

#[test]
fn refuses_values_that_cannot_be_used() {
    type Change = fn(&mut GuestDocument);
    let cases: &[(Change, &str)] = &[
        (|d| d.roots.clear(), "guest document has 0 roots, expected 1 to 16"),
        (|d| d.processes.clear(), "guest document has 0 processes, expected 1 to 64"),
        (|d| d.processes = vec![d.processes[0].clone(); 2], "guest document has two processes \"main\""),
        (|d| d.roots = vec![d.roots[0].clone(); 2], "guest document has two roots \"root\""),
        (
            |d| d.roots[0].overlay = Overlay::Disk { serial: "root".into() },
            "guest document has two disks \"root\"",
        ),
        (
            |d| d.processes[0].root = "other".into(),
            "process \"main\" names root \"other\", which is not in the guest document",
        ),
        (
            |d| d.hostname = "-a".into(),
            "hostname of \"guest document\" is \"-a\", expected labels of letters, digits and inner '-' joined \
             by '.', 63 bytes at most",
        ),
        (
            |d| d.roots[0].disk = "x".repeat(21),
            "disk of \"root\" is \"xxxxxxxxxxxxxxxxxxxxx\", expected 1 to 20 letters, digits, '-', '_' or '.'",
        ),
        (
            |d| d.roots[0].overlay = Overlay::Tmpfs { size_mib: 0 },
            "overlay size of \"root\" is 0, expected at least 1 MiB",
        ),
        (|d| d.roots[0].verity.root_hash = Hex::new([1]), "root hash of \"root\" is 01, expected 32 bytes"),
        (|d| d.roots[0].verity.block_size = 512, "block size of \"root\" is 512, expected 4096"),
        (|d| d.roots[0].verity.data_blocks = 0, "data blocks of \"root\" is 0, expected 1 to 2^51 - 1"),
        (
            |d| d.roots[0].verity.hash_start_block = 9,
            "hash start block of \"root\" is 9, expected a block behind the data",
        ),
        (|d| d.processes[0].argv.clear(), "argv of \"main\" is None, expected a program"),
        (|d| d.processes[0].argv[0].clear(), "argv of \"main\" is Some(\"\"), expected a program"),
        (|d| d.processes[0].argv.push("\0".into()), "argv of \"main\" is \"\\0\", expected text without NUL"),
        (
            |d| d.processes[0].env.push("A".into()),
            "env of \"main\" is \"A\", expected NAME=value without NUL",
        ),
        (
            |d| d.processes[0].env.push("=".into()),
            "env of \"main\" is \"=\", expected NAME=value without NUL",
        ),
        (
            |d| d.processes[0].working_dir = "a".into(),
            "working directory of \"main\" is \"a\", expected an absolute path without NUL",
        ),
        (|d| d.processes[0].stop_signal = 65, "stop signal of \"main\" is 65, expected 1 to 64"),
        (|d| d.processes[0].name.clear(), "name of \"\" is \"\", expected 1 to 128 bytes of printable text"),
    ];
    for (change, expected) in cases {
        let mut document = document();
        change(&mut document);
        assert_eq!(document.to_bytes().unwrap_err().to_string(), *expected);
    }
}
