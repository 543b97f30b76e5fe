use super::*;
use crate::printer::aligned;
use mvm_engine::Health;

fn vm(phase: Phase) -> VmListing {
    VmListing {
        name: "web".parse().unwrap(),
        image: "docker.io/library/debian:12".to_owned(),
        root_hash: format!("sha256:{}", "1".repeat(64)).parse().unwrap(),
        plan: format!("sha256:{}", "2".repeat(64)).parse().unwrap(),
        phase,
        isolation: Some("emulated".to_owned()),
        exit_code: None,
        message: None,
        health: None,
        ports: Vec::new(),
        command: vec!["sh".to_owned(), "-c".to_owned(), "echo \x1b[2J".to_owned()],
        created_at: 1000,
        started_at: Some(1010),
        finished_at: Some(4600),
    }
}

#[test]
fn tables_are_as_documented() {
    let vms = [
        VmListing { started_at: None, isolation: None, ..vm(Phase::Booting) },
        VmListing {
            health: Some(Health::Unhealthy),
            ports: vec!["127.0.0.1:8080->80/tcp".to_owned()],
            ..vm(Phase::Running)
        },
        VmListing { command: vec![], ..vm(Phase::Paused) },
        VmListing { exit_code: Some(137), ..vm(Phase::Exited) },
        vm(Phase::Exited),
        vm(Phase::Failed),
    ];
    let rows: Vec<Vec<String>> = vms.iter().map(|vm| row(vm, 4610)).collect();
    let expected = "\
NAME   IMAGE                         STATUS                        HEALTH      PORTS                    ISOLATION   COMMAND
web    docker.io/library/debian:12   booting                     -           -                        -           sh -c echo \\x1b[2J
web    docker.io/library/debian:12   running 1 hour              unhealthy   127.0.0.1:8080->80/tcp   emulated    sh -c echo \\x1b[2J
web    docker.io/library/debian:12   paused                      -           -                        emulated
web    docker.io/library/debian:12   exited (137) 10 seconds ago -           -                        emulated    sh -c echo \\x1b[2J
web    docker.io/library/debian:12   stopped 10 seconds ago      -           -                        emulated    sh -c echo \\x1b[2J
web    docker.io/library/debian:12   failed 10 seconds ago       -           -                        emulated    sh -c echo \\x1b[2J
";
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeeze(&aligned(&HEADING, &rows)), squeeze(expected));
    assert_eq!(aligned(&HEADING, &rows).lines().next(), expected.lines().next());
}
