use super::*;
use serde_json::{Value, json};

const BUSYBOX: &str = "/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-busybox";

fn document() -> Value {
    json!({
        "schema": "mvm.guest.v1", "name": "web", "hostname": "web", "system": "x86_64-linux", "rootfsType": "erofs",
        "packages": [BUSYBOX], "serviceGroup": "mvm",
        "users": {"alice": {"uid": 1000, "group": "alice", "gid": 1000, "home": "/home/alice"}},
        "services": {"http": {
            "command": "httpd -f", "preStart": ["/bin/mkdir", "/run/x"], "env": {"A": "b"}, "user": "mvm",
            "logFile": "/dev/console", "after": [], "restart": "always", "stopGraceSecs": 10,
            "limits": {"memoryMiB": null, "pids": 7, "cpuPercent": null},
        }},
        "healthChecks": {"http": {
            "healthCmd": "true", "healthIntervalSecs": 30, "healthTimeoutSecs": 10, "startupGraceSecs": 0,
            "service": "http",
        }},
        "shell": format!("{BUSYBOX}/bin/sh"), "env": format!("{BUSYBOX}/bin/env"), "caBundle": null,
        "command": null, "variables": {"TZ": "UTC"},
    })
}

fn parse(document: &Value) -> Result<GuestDefinition, GuestDefinitionError> {
    GuestDefinition::parse(document.to_string().as_bytes())
}

#[test]
fn a_guest_is_read() {
    let guest = parse(&document()).unwrap();
    assert_eq!(serde_json::to_value(&guest).unwrap(), document());
    let service = guest.services.values().next().unwrap();
    let argv = |command: &GuestCommand| guest.argv(command);
    assert_eq!(argv(&service.command), [&format!("{BUSYBOX}/bin/sh"), "-c", "httpd -f"]);
    assert_eq!(argv(service.pre_start.as_ref().unwrap()), ["/bin/mkdir", "/run/x"]);
    assert_eq!(guest.path(), [format!("{BUSYBOX}/bin")]);
    assert_eq!(guest.store_paths(), BTreeSet::from([BUSYBOX.parse().unwrap()]));
    assert_eq!(guest.system.architecture(), "amd64");
}

#[test]
fn what_is_no_guest() {
    let cases: [(&str, Value, &str); 16] = [
        ("/schema", json!("mvm.guest.v2"), "unknown variant"),
        ("/system", json!("riscv64-linux"), "unknown variant"),
        ("/rootfsType", json!("zfs"), "unknown variant"),
        ("/packages/0", json!("/usr"), "is not a path directly in"),
        ("/shell", json!("/bin/sh"), "shell of the guest"),
        ("/shell", json!(format!("{BUSYBOX}/../x")), "has a . or .. in it"),
        ("/shell", Value::Null, "services.http.command of the guest is a text for a shell"),
        ("/services/http/command", json!([]), "names no program"),
        ("/services/http/command", json!(" "), "is empty"),
        ("/services/http/command", json!("a\u{0}b"), "NUL"),
        ("/services/http/env", json!({"A=B": "c"}), "has a variable named \"A=B\""),
        ("/services/http/restart", json!("sometimes"), "unknown variant"),
        ("/services/http/limits", json!({"disk": 1}), "unknown field"),
        ("/users/alice/home", json!("/home/a:b"), "users.alice of the guest"),
        ("/users/alice/uid", json!(-1), "invalid value"),
        ("/hostname", json!("web\nroot::0"), "hostname of the guest"),
    ];
    for (pointer, value, words) in cases {
        let mut document = document();
        *document.pointer_mut(pointer).unwrap() = value;
        let error = parse(&document).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error}: {source}");
        assert!(text.contains(words), "{pointer}: {text}");
    }
    let mut more = document();
    more["extra"] = json!(1);
    assert!(matches!(parse(&more), Err(GuestDefinitionError::Json(_))));
    for required in ["name", "packages", "services", "serviceGroup", "users", "healthChecks"] {
        let mut less = document();
        less.as_object_mut().unwrap().remove(required);
        assert!(matches!(parse(&less), Err(GuestDefinitionError::Json(_))), "{required}");
    }
    assert!(matches!(
        GuestDefinition::parse(&vec![b' '; MAX_GUEST_DEFINITION + 1]),
        Err(GuestDefinitionError::Size { .. })
    ));
    assert!(matches!(GuestDefinition::parse("[".repeat(200).as_bytes()), Err(GuestDefinitionError::Nesting)));
}
