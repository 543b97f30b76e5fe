//! `mvmctl image tree`.

use crate::context::Context;
use mvm_engine::{Digests, NodeTime, Shown, TreeEntry};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

/// List the files of an image
#[derive(clap::Args)]
#[command(
    after_help = "A line is: type and mode, uid:gid, size (or major,minor of a device), seconds since 1970, number of \
                  names, inode, digest (with --digests), path, `->` and the target of a symbolic link, extended \
                  attributes as [NAME=BASE64]. In paths, targets and names `\\\\` is a backslash and `\\xNN` a byte."
)]
pub struct Args {
    /// Print one JSON object per line, digests included
    #[arg(long)]
    json: bool,
    /// Hash the content of files
    #[arg(long)]
    digests: bool,
    /// Don't hash the content of files
    #[arg(long, requires = "json", conflicts_with = "digests")]
    no_digests: bool,
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    image: String,
    /// Only what is at and beneath this path, in which no symbolic link is followed
    path: Option<OsString>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let is_hashed = args.digests || args.json && !args.no_digests;
    let digests = if is_hashed { Digests::Computed } else { Digests::Omitted };
    let path = args.path.unwrap_or_default();
    let mut out = context.printer.stream();
    context.engine_to_look()?.image_tree(
        &args.image,
        path.as_bytes(),
        digests,
        context.signals.cancel(),
        |entry| {
            let line = if args.json { serde_json::to_string(&entry)? } else { line(&entry) };
            anyhow::Ok(out.line(&line)?)
        },
    )?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn line(entry: &TreeEntry) -> String {
    let mut text = permissions(entry);
    let place = match (&entry.size, &entry.device) {
        (Some(size), _) => size.to_string(),
        (None, Some(device)) => format!("{},{}", device.major, device.minor),
        (None, None) => "-".to_owned(),
    };
    let (owner, mtime) = (format_args!("{}:{}", entry.uid, entry.gid), seconds(entry.mtime));
    append(&mut text, format_args!(" {owner} {place} {mtime} {} {} ", entry.nlink, entry.inode));
    if let Some(digest) = &entry.sha256 {
        append(&mut text, format_args!("sha256:{digest} "));
    }
    text.push_str(&word(&entry.path));
    if let Some(target) = &entry.target {
        append(&mut text, format_args!(" -> {}", word(target)));
    }
    for (name, value) in &entry.xattrs {
        append(&mut text, format_args!(" [{}={value}]", word(name).replace('=', "\\x3d")));
    }
    text
}

/// Makes an escaped text one word.
fn word(text: &Shown) -> String {
    text.as_ref().replace(' ', "\\x20")
}

fn append(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes all that is written to it");
}

/// Formats type and mode as `ls -l` does.
fn permissions(entry: &TreeEntry) -> String {
    let letter = match entry.kind {
        "directory" => 'd',
        "symlink" => 'l',
        "char-device" => 'c',
        "block-device" => 'b',
        "fifo" => 'p',
        "socket" => 's',
        _ => '-',
    };
    let mode = u16::from_str_radix(&entry.mode, 8).unwrap_or(0);
    let mut text = String::from(letter);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    text
}

/// Formats a time as decimal seconds with nine places.
fn seconds(time: NodeTime) -> String {
    let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, part) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    format!("{sign}{whole}.{part:09}")
}

#[cfg(test)]
mod tests {
    use super::{NodeTime, Shown, TreeEntry, line, seconds};
    use std::collections::BTreeMap;

    fn entry(kind: &'static str, mode: &str) -> TreeEntry {
        TreeEntry {
            path: Shown::new(b"/a b"),
            kind,
            mode: mode.to_owned(),
            uid: 1,
            gid: 2,
            size: None,
            mtime: NodeTime { secs: 3, nanos: 4 },
            nlink: 5,
            inode: 6,
            target: None,
            device: None,
            xattrs: BTreeMap::new(),
            sha256: None,
        }
    }

    #[test]
    fn shows_each_type_on_a_line() {
        let common = "1:2 - 3.000000004 5 6 /a\\x20b";
        let plain = [
            ("directory", "1777", "drwxrwxrwt"),
            ("fifo", "6010", "p--S--s---"),
            ("socket", "0001", "s--------x"),
        ];
        for (kind, mode, shown) in plain {
            assert_eq!(line(&entry(kind, mode)), format!("{shown} {common}"));
        }
        let link = TreeEntry { target: Some(Shown::new(b"-> x")), ..entry("symlink", "0777") };
        assert_eq!(line(&link), format!("lrwxrwxrwx {common} -> ->\\x20x"));
        let xattrs = BTreeMap::from([(Shown::new(b"user.a=b"), "AA==".to_owned())]);
        let file =
            TreeEntry { size: Some(9), sha256: Some("00".to_owned()), xattrs, ..entry("file", "4755") };
        assert_eq!(line(&file), "-rwsr-xr-x 1:2 9 3.000000004 5 6 sha256:00 /a\\x20b [user.a\\x3db=AA==]");
    }

    #[test]
    fn shows_times_as_numbers() {
        let cases = [
            ((0, 0), "0.000000000"),
            ((-1, 0), "-1.000000000"),
            ((-2, 500_000_000), "-1.500000000"),
            ((-1, 999_999_999), "-0.000000001"),
            ((i64::MIN, 0), "-9223372036854775808.000000000"),
        ];
        for ((secs, nanos), text) in cases {
            assert_eq!(seconds(NodeTime { secs, nanos }), text);
        }
    }
}
