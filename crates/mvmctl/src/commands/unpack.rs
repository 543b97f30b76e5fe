//! The options of all verbs that unpack layers.

use mvm_engine::{SettingError, UnpackPolicy};

/// What layers may hold.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "Unpack options")]
pub struct Unpack {
    /// Set a rule or limit on what layers may hold (may be repeated): whiteouts=apply|refuse, symlink-depth=40,
    /// absolute-symlinks=keep|refuse, hardlinks=keep|same-layer|refuse, set-id=keep|refuse,
    /// file-capabilities=keep|refuse, devices=usual|any|refuse, max-uid=4294967294, entries=2000000, unpacked=64GiB,
    /// apparent=128GiB, layers=512, path=4096, name=255, xattrs=64KiB, metadata=256MiB, ratio=1000, ratio-from=1GiB
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse)]
    unpack: Vec<String>,
}

impl Unpack {
    /// Returns the policy, or nothing where no option was given.
    pub fn resolve(self) -> Result<Option<UnpackPolicy>, SettingError> {
        if self.unpack.is_empty() {
            return Ok(None);
        }
        let mut policy = UnpackPolicy::default();
        self.unpack.iter().try_for_each(|setting| policy.set(setting))?;
        Ok(Some(policy))
    }
}

fn parse(text: &str) -> Result<String, SettingError> {
    UnpackPolicy::default().set(text)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Unpack, parse};
    use mvm_engine::UnpackPolicy;

    #[test]
    fn the_last_setting_of_a_name_counts() {
        let unpack = |settings: &[&str]| {
            let unpack = settings.iter().map(|setting| parse(setting)).collect::<Result<_, _>>();
            Unpack { unpack: unpack.expect("settings") }.resolve().expect("settings")
        };
        assert_eq!(unpack(&[]), None);
        let policy = UnpackPolicy { entries: 2, layers: 3, ..UnpackPolicy::default() };
        assert_eq!(unpack(&["entries=1", "layers=3", "entries=2"]), Some(policy));
        assert!(parse("entries").is_err());
    }

    #[test]
    fn the_help_says_the_defaults() {
        let help =
            <Unpack as clap::Args>::augment_args(clap::Command::new("x")).render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let start = help.find("whiteouts=").expect("the settings");
        let mut policy = UnpackPolicy::loosest();
        for setting in help[start..].split(", ") {
            let setting = setting.split_whitespace().next().expect("a setting");
            // Of several words the first one is the default.
            policy.set(setting.split('|').next().expect("a value")).expect(setting);
        }
        assert_eq!(policy, UnpackPolicy::default());
    }
}
