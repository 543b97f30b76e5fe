use super::*;

fn parse(text: &str) -> Result<ImageConfig, ConfigError> {
    ImageConfig::parse(text.as_bytes())
}

#[test]
fn a_full_config_is_read() {
    let id = Digest::of(b"tar");
    let text = format!(
        r#"{{"created":"2024-01-01T00:00:00Z","architecture":"arm64","variant":"v8","os":"linux","author":"x",
        "config":{{"User":"1:2","ExposedPorts":{{"80/tcp":{{}},"53/udp":null}},"Env":["A=b","C"],
        "Entrypoint":["/e","x"],"Cmd":["c"],"Volumes":{{"/data":{{}}}},"WorkingDir":"/w","Labels":{{"a":"b"}},
        "StopSignal":"SIGINT","ArgsEscaped":true,"OnBuild":null,
        "Healthcheck":{{"Test":["CMD","true"],"Interval":30000000000,"Retries":3}}}},
        "rootfs":{{"type":"layers","diff_ids":["{id}"]}},"history":[{{"empty_layer":true}}]}}"#
    );
    let strings = own;
    let process = ProcessConfig {
        entrypoint: strings(&["/e", "x"]),
        cmd: strings(&["c"]),
        env: strings(&["A=b", "C"]),
        working_dir: "/w".to_owned(),
        user: "1:2".to_owned(),
        stop_signal: "SIGINT".to_owned(),
        exposed_ports: strings(&["53/udp", "80/tcp"]).into_iter().collect(),
        volumes: strings(&["/data"]).into_iter().collect(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        healthcheck: Some(Healthcheck {
            test: strings(&["CMD", "true"]),
            interval: 30_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        }),
    };
    let wanted = ImageConfig {
        platform: Platform::new("linux", "arm64", Some("v8")),
        diff_ids: vec![id],
        created: Some("2024-01-01T00:00:00Z".to_owned()),
        process,
    };
    assert_eq!(parse(&text).unwrap(), wanted);
}

#[test]
fn what_go_writes_for_nothing_is_nothing() {
    let wanted = ImageConfig {
        platform: Platform::new("linux", "amd64", None),
        diff_ids: vec![],
        created: None,
        process: ProcessConfig::default(),
    };
    for config in [
        "",
        r#""config":null,"#,
        r#""config":{},"#,
        r#""config":{"User":"","Env":null,"Cmd":null,"Entrypoint":null,"Volumes":null,"Labels":null,"ExposedPorts":null,"Healthcheck":null},"#,
    ] {
        let text = format!(
            r#"{{{config}"os":"linux","architecture":"amd64","variant":null,"rootfs":{{"type":"layers","diff_ids":null}}}}"#
        );
        assert_eq!(parse(&text).unwrap(), wanted, "{config}");
    }
}

#[test]
fn what_docker_takes_for_a_list_is_one() {
    for (config, entrypoint, cmd, labels) in [
        (r#"{"Entrypoint":"/a b"}"#, &["/a b"][..], &[][..], &[][..]),
        (r#"{"Cmd":""}"#, &[], &[""], &[]),
        (r#"{"Cmd":[],"Labels":{"a":null,"b":"c"}}"#, &[], &[], &[("a", ""), ("b", "c")]),
    ] {
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        let config = parse(&text).unwrap();
        let process = config.process();
        assert_eq!(
            (&process.entrypoint[..], &process.cmd[..]),
            (&own(entrypoint)[..], &own(cmd)[..]),
            "{text}"
        );
        let labels = labels.iter().map(|&(key, text)| (key.to_owned(), text.to_owned())).collect();
        assert_eq!(process.labels, labels, "{text}");
    }
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn bad_configs_are_refused() {
    let rootfs = r#""rootfs":{"type":"layers","diff_ids":[]}"#;
    let cases = [
        (
            format!(r#"{{"os":"windows","architecture":"amd64",{rootfs}}}"#),
            "image is for operating system \"windows\"; mvm runs linux images",
        ),
        (
            format!(r#"{{"architecture":"amd64",{rootfs}}}"#),
            "image is for operating system \"\"; mvm runs linux images",
        ),
        (format!(r#"{{"os":"linux",{rootfs}}}"#), "image config names no architecture"),
        (r#"{"os":"linux","architecture":"amd64"}"#.into(), "image config is not valid"),
        (
            format!(r#"{{"os":"linux","architecture":"amd64","variant":"v1 x\n",{rootfs}}}"#),
            "image config has platform \"linux/amd64/v1 x\\n\", which is not OS/ARCH or OS/ARCH/VARIANT",
        ),
        (
            r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"zfs"}}"#.into(),
            "image config has rootfs type \"zfs\", expected \"layers\"",
        ),
        (
            r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:AA"]}}"#
                .into(),
            "image config has a bad diff ID for layer 0",
        ),
        (
            format!(r#"{{"os":"linux","architecture":"amd64","config":{{"Env":["A=\u0000"]}},{rootfs}}}"#),
            "image config property Env holds a NUL byte",
        ),
        (
            format!(
                r#"{{"os":"linux","architecture":"amd64","config":{{"Volumes":{{"/\u0000":{{}}}}}},{rootfs}}}"#
            ),
            "image config property Volumes holds a NUL byte",
        ),
        (
            format!(r#"{{"os":"linux","architecture":"amd64","config":{{"User":5}},{rootfs}}}"#),
            "image config is not valid",
        ),
        (
            format!(r#"{{"os":"linux","architecture":"amd64","config":{{"Cmd":5}},{rootfs}}}"#),
            "image config is not valid",
        ),
        ("[]".repeat(5 << 20), "image config has 10485760 bytes, more than 4194304"),
    ];
    for (text, message) in cases {
        assert_eq!(parse(&text).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_platform_reads_back() {
    for (architecture, variant, expected) in [
        ("amd64", "", "linux/amd64"),
        ("x86_64", "v1", "linux/amd64"),
        ("AMD64", "", "linux/amd64"),
        ("arm64", "v8", "linux/arm64/v8"),
        ("aarch64", "8", "linux/aarch64/8"),
    ] {
        let text = format!(
            r#"{{"os":"linux","architecture":"{architecture}","variant":"{variant}","rootfs":{{"type":"layers"}}}}"#
        );
        let platform = parse(&text).unwrap().platform().to_string();
        assert_eq!(platform, expected);
        platform.parse::<Platform>().unwrap();
    }
}
