//! What a builder says of what it built: the closure that `nix path-info` prints, and the description of a guest.

use mvm_ref::GuestDefinition;
use mvm_ref::nix::{Closure, StorePath};
use std::collections::BTreeSet;

/// Reads the input as both.
pub fn body(data: &[u8]) {
    match Closure::parse(data) {
        Ok(closure) => check(&closure),
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() < 4096, "{} bytes of words", words.len());
        }
    }
    if let Ok(guest) = GuestDefinition::parse(data) {
        let text = serde_json::to_vec(&guest).expect("what was read can be written");
        assert_eq!(GuestDefinition::parse(&text).expect("and read again"), guest);
        for service in guest.services.values() {
            let argv = guest.argv(&service.command);
            assert!(argv.iter().all(|word| !word.contains('\0')) && !argv[0].is_empty(), "{argv:?}");
        }
    }
}

fn check(closure: &Closure) {
    let paths: Vec<&StorePath> = closure.paths().map(|info| &info.path).collect();
    assert!(paths.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once");
    let known: BTreeSet<&StorePath> = paths.iter().copied().collect();
    let mut keys = BTreeSet::new();
    for info in closure.paths() {
        assert_eq!(info.path.to_string().parse::<StorePath>().as_ref(), Ok(&info.path));
        assert!(info.references.iter().all(|path| known.contains(path)), "closed");
        assert!(keys.insert(info.segment_key()), "two paths of one name in the store");
        if let Some(ca) = &info.ca {
            assert_eq!(ca.to_string().parse().as_ref(), Ok(ca));
        }
    }
    if let Some(first) = paths.first() {
        // Whatever the answer, it comes.
        let _is_output = closure.check_output(first).is_ok();
    }
}

/// Returns closures in both shapes, and a guest.
pub fn seeds() -> Vec<Vec<u8>> {
    let hash = "sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM=";
    let hello = "/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-hello.txt";
    let two = "/nix/store/qbbwzgr8mgxz8x78g4a6cbyvvdzzv4sy-two.txt";
    let ca = "text:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq";
    let guest = format!(
        r#"{{"schema":"mvm.guest.v1","name":"web","hostname":"web","system":"x86_64-linux","rootfsType":"erofs","packages":["{hello}"],"serviceGroup":"mvm","users":{{"a":{{"uid":1000,"group":"a","home":"/home/a"}}}},"services":{{"http":{{"command":"httpd","preStart":null,"env":{{"A":"b"}},"user":"a","logFile":"/dev/console"}}}},"healthChecks":{{"http":{{"healthCmd":["true"],"healthIntervalSecs":30,"healthTimeoutSecs":10,"startupGraceSecs":0}}}},"shell":"{hello}/bin/sh","env":null,"caBundle":null}}"#
    );
    [
        format!(
            r#"[{{"path":"{hello}","narHash":"{hash}","narSize":120,"references":[],"ca":"{ca}"}},{{"path":"{two}","narHash":"{hash}","narSize":120,"references":["{hello}"]}}]"#
        ),
        format!(
            r#"{{"{hello}":{{"ca":"{ca}","deriver":null,"narHash":"{hash}","narSize":120,"references":["{hello}"],"signatures":["a:b"]}}}}"#
        ),
        format!(r#"[{{"path":"{two}","narHash":"{hash}","narSize":120,"references":["{hello}"]}}]"#),
        format!(r#"{{"{hello}":null}}"#),
        guest,
    ]
    .map(String::into_bytes)
    .into()
}
