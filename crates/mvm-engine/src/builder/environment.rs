//! What commands in the builder find around them: all of it made here, nothing of the host.

use crate::store_settings::StoreSettings;
use mvm_ref::ImageConfig;

/// Where images that come with Nix in its own store have its programs.
const PROFILES: &str = "/root/.nix-profile/bin:/nix/var/nix/profiles/default/bin";
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes the volume ready for Nix, where it may be new, or may not hold all that was written to it.
///
/// A volume on which no Nix was found is left empty, so that the next image can fill it. Nix doesn't sync its caches, so those
/// that a builder had which ended with its hypervisor are not believed.
pub(super) const PREPARE: &str = "\
if ! command -v nix >/dev/null; then echo 'there is no program nix in its PATH' >&2; exit 1; fi
rm -rf /nix/var/mvm/cache
mkdir -p /nix/store /nix/var/nix /nix/var/mvm/cache
";

/// Returns the environment, `NAME=VALUE`, over that of the image.
pub(super) fn environment(config: &ImageConfig, settings: &StoreSettings, online: bool) -> Vec<String> {
    let path = config.process().env.iter().find_map(|variable| variable.strip_prefix("PATH="));
    let path = path.filter(|path| !path.is_empty()).unwrap_or(USUAL_PATH);
    vec![
        format!("PATH={path}:{PROFILES}"),
        "HOME=/root".to_owned(),
        "USER=root".to_owned(),
        "LANG=C.UTF-8".to_owned(),
        // On the volume: what was fetched and evaluated need not be again.
        "XDG_CACHE_HOME=/nix/var/mvm/cache".to_owned(),
        // Nothing on this machine speaks to a daemon, which some images would look for.
        "NIX_REMOTE=".to_owned(),
        format!("NIX_CONFIG={}", nix_settings(settings, online)),
    ]
}

/// Returns Nix's settings; they go before what the image's files say.
///
/// Without a sync before it, what Nix registers is on disk sooner than what it registered: a hypervisor that is killed would
/// leave paths that are valid and empty, on which all later builds go on.
fn nix_settings(settings: &StoreSettings, online: bool) -> String {
    let (substituters, keys) = match online {
        true => {
            let keys: Vec<String> = settings.path_keys().iter().map(ToString::to_string).collect();
            (settings.builder().substituters().join(" "), keys.join(" "))
        }
        // Without a network each would be tried in vain.
        false => (String::new(), String::new()),
    };
    format!(
        "experimental-features = nix-command flakes\n\
         build-users-group =\n\
         sandbox = true\n\
         sandbox-fallback = false\n\
         require-sigs = true\n\
         accept-flake-config = false\n\
         sync-before-registering = true\n\
         max-jobs = auto\n\
         substituters = {substituters}\n\
         trusted-public-keys = {keys}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_there_is_nobody_to_ask() {
        let settings = StoreSettings::default();
        assert!(nix_settings(&settings, false).ends_with("substituters = \ntrusted-public-keys = \n"));
        let online = nix_settings(&settings, true);
        assert!(online.contains("substituters = https://cache.nixos.org\n"), "{online}");
        assert!(online.contains("trusted-public-keys = cache.nixos.org-1:"), "{online}");
    }
}
