//! A process's environment.

/// The search path of a process whose environment has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the environment: `PATH`, `HOSTNAME` and, on a terminal, `TERM`, all of which `given` may replace, then
/// what `given` adds, then `HOME` if it has none. Of equal names the last value counts, at the first one's place.
pub(crate) fn environment(given: &[String], home: &str, hostname: &str, terminal: bool) -> Vec<String> {
    let mut env = vec![format!("PATH={PATH}"), format!("HOSTNAME={hostname}")];
    if terminal {
        env.push("TERM=xterm".to_owned());
    }
    for entry in given {
        let same = |other: &String| name(other) == name(entry);
        match env.iter().position(same) {
            Some(index) => env[index].clone_from(entry),
            None => env.push(entry.clone()),
        }
    }
    if !env.iter().any(|entry| name(entry) == "HOME") {
        env.push(format!("HOME={home}"));
    }
    env
}

fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_values_replace_defaults() {
        let env = |given: &[&str], terminal| {
            let given: Vec<String> = given.iter().map(|entry| (*entry).to_owned()).collect();
            environment(&given, "/root", "web", terminal)
        };
        let path = format!("PATH={PATH}");
        assert_eq!(env(&[], false), [path.as_str(), "HOSTNAME=web", "HOME=/root"]);
        assert_eq!(env(&[], true), [path.as_str(), "HOSTNAME=web", "TERM=xterm", "HOME=/root"]);
        assert_eq!(
            env(&["A=1", "PATH=/bin", "HOME=/h", "TERM=vt100", "A=2=3", "B="], true),
            ["PATH=/bin", "HOSTNAME=web", "TERM=vt100", "A=2=3", "HOME=/h", "B="]
        );
    }
}
