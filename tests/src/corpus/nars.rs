//! Nix archives made to harm, and odd ones: what a builder may send for a store path.
//!
//! Hash and size that are said of an archive are always those of its bytes, so that only its form can give it away. No
//! builder of ours writes such ones, so they reach the engine where those of a builder do, as the closure of a build.

use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;
use std::process::ExitCode;

use mvm_engine::{
    BuildFacts, BuilderFacts, Cancel, Engine, EngineError, ErrorKind, FetchConfig, FlakeLibrary, NarSource,
    Settings, Silent, chain,
};
use mvm_ref::nix::{Closure, NarHash, PathInfo, StorePath};
use mvm_ref::{Digest, NixSystem, ScopeName};
use serde_json::json;

use super::measure;
use super::run::{CaseError, ensure, note};
use crate::nar::{archive, directory, file, link, program, words};

/// First argument of a test program that is to import an archive; behind it the store and the file.
pub const FLAG: &str = "--import-archive";
const SUBJECT: &str = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-subject";
const GUEST: &str = "/nix/store/dddddddddddddddddddddddddddddddd-mvm-guest-d.json";

/// An archive, why it is interesting, and what must come of it.
pub struct NarCase {
    /// Unique name in kebab case.
    pub name: &'static str,
    /// The weakness that it stands for, or where such ones come from.
    pub why: &'static str,
    archive: fn() -> Vec<u8>,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
enum Outcome {
    /// It is no archive that Nix writes.
    Malformed(&'static str),
    /// It has more of something than the policy lets it.
    OverLimit(&'static str),
    Accepted,
}

use Outcome::{Accepted, Malformed, OverLimit};

const fn case(name: &'static str, why: &'static str, archive: fn() -> Vec<u8>, outcome: Outcome) -> NarCase {
    NarCase { name, why, archive, outcome }
}

/// Begins an archive with words that need not be one.
fn begun(rest: &[&str]) -> Vec<u8> {
    archive(&words(rest))
}

fn named(name: &[u8]) -> Vec<u8> {
    archive(&directory(&[(name, file(b""))]))
}

fn two(first: &[u8], second: &[u8]) -> Vec<u8> {
    archive(&directory(&[(first, file(b"1")), (second, file(b"2"))]))
}

fn deep(levels: usize) -> Vec<u8> {
    let start = words(&["(", "type", "directory", "entry", "(", "name", "d", "node"]).repeat(levels);
    archive(&[start, directory(&[]), words(&[")", ")"]).repeat(levels)].concat())
}

fn cut(bytes: usize) -> Vec<u8> {
    let mut whole = archive(&file(&[7; 100]));
    whole.truncate(whole.len() - bytes);
    whole
}

/// Changes the byte that is so far from the end.
fn changed(from_end: usize) -> Vec<u8> {
    let mut whole = archive(&file(b"hello\n"));
    let at = whole.len() - from_end;
    whole[at] = 1;
    whole
}

fn lying_length(length: u64) -> Vec<u8> {
    let start = words(&["nix-archive-1", "(", "type", "regular", "contents"]);
    [start, length.to_le_bytes().to_vec(), vec![7; 64]].concat()
}

/// Returns all cases.
pub fn cases() -> Vec<NarCase> {
    let mut all = forms();
    all.extend(names());
    all.extend(oddities());
    all
}

/// What is not the one way to write a tree.
fn forms() -> Vec<NarCase> {
    vec![
        case("empty", "nothing at all", Vec::new, Malformed("the NAR")),
        case(
            "zeros",
            "a text of no bytes, again and again",
            || vec![0; 64],
            Malformed("expected nix-archive-1"),
        ),
        case("other-version", "of the future", || words(&["nix-archive-2"]), Malformed("nix-archive-2")),
        case(
            "endless-word",
            "a length that no memory holds",
            || vec![255; 64],
            Malformed("18446744073709551615"),
        ),
        case("no-node", "an archive of nothing", || begun(&[]), Malformed("is longer than the")),
        case("bracket", "another bracket", || begun(&["[", "type", "regular"]), Malformed("expected (")),
        case("no-type", "a node that is nothing", || begun(&["(", ")"]), Malformed("expected type")),
        case("fifo", "what no store path is", || begun(&["(", "type", "fifo", ")"]), Malformed("\"fifo\"")),
        case("device", "a device", || begun(&["(", "type", "block", ")"]), Malformed("\"block\"")),
        case(
            "no-contents",
            "Nix wrote such ones of empty files once",
            || begun(&["(", "type", "regular", ")"]),
            Malformed("expected executable or contents"),
        ),
        case(
            "executable-yes",
            "an executable with a value",
            || begun(&["(", "type", "regular", "executable", "yes", "contents", "", ")"]),
            Malformed("got \"yes\""),
        ),
        case(
            "executable-after",
            "marked when it is written",
            || begun(&["(", "type", "regular", "contents", "", "executable", "", ")"]),
            Malformed("executable"),
        ),
        case(
            "contents-twice",
            "which one counts?",
            || begun(&["(", "type", "regular", "contents", "a", "contents", "b", ")"]),
            Malformed("contents"),
        ),
        case(
            "type-twice",
            "a link that is a directory",
            || begun(&["(", "type", "symlink", "type", "directory", ")"]),
            Malformed("expected target"),
        ),
        case("link-to-nothing", "a target of no bytes", || archive(&link(b"")), Malformed("a link to \"\"")),
        case("link-with-nul", "a target that ends twice", || archive(&link(b"a\0b")), Malformed("a link to")),
        case(
            "entry-without-node",
            "a name and nothing",
            || begun(&["(", "type", "directory", "entry", "(", "name", "a", ")", ")"]),
            Malformed("expected node"),
        ),
        case(
            "entry-unknown",
            "another word for an entry",
            || begun(&["(", "type", "directory", "file"]),
            Malformed("expected entry or )"),
        ),
        case("padding-of-content", "bytes that are in no file", || changed(17), Malformed("padding")),
        case("padding-of-a-word", "bytes that are in no word", || changed(1), Malformed("padding")),
        case("truncated-by-a-word", "all but the last bracket", || cut(16), Malformed("is longer than the")),
        case("truncated-in-content", "half a file", || cut(80), Malformed("is longer than the")),
        case("truncated-in-padding", "all but a zero", || cut(1), Malformed("is longer than the")),
        case(
            "trailing-zeros",
            "a size that is larger than the archive",
            || [archive(&file(b"")), vec![0; 8]].concat(),
            Malformed("its description says"),
        ),
        case(
            "trailing-archive",
            "one more than was asked for",
            || archive(&file(b"")).repeat(2),
            Malformed("its description says"),
        ),
        case("lying-length", "a file that goes on for a terabyte", || lying_length(1 << 40), OverLimit("")),
        case(
            "lying-length-below-limits",
            "a file that should go on",
            || lying_length(1 << 20),
            Malformed("is longer than the"),
        ),
        case("deep", "directories to overflow a stack", || deep(100_000), OverLimit("path")),
        case(
            "deep-and-never-closed",
            "brackets that nobody closes",
            || archive(&words(&["(", "type", "directory", "entry", "(", "name", "d", "node"]).repeat(1000)),
            Malformed("is longer than the"),
        ),
    ]
}

/// What entries may not be called, and their order.
fn names() -> Vec<NarCase> {
    vec![
        case("name-empty", "the directory itself", || named(b""), Malformed("\"\" can't be the name")),
        case("name-dot", "the directory itself", || named(b"."), Malformed("\".\" can't be the name")),
        case("name-dot-dot", "the store itself", || named(b".."), Malformed("\"..\" can't be the name")),
        case(
            "name-with-slash",
            "a path that leads elsewhere",
            || named(b"../../etc/passwd"),
            Malformed("can't be the name"),
        ),
        case("name-absolute", "a path of the host", || named(b"/etc/passwd"), Malformed("can't be the name")),
        case("name-with-nul", "two names in one", || named(b"a\0b"), Malformed("can't be the name")),
        case("name-too-long", "more than file systems hold", || named(&[b'a'; 256]), Malformed("256 bytes")),
        case(
            "unsorted",
            "one tree, two hashes",
            || two(b"b", b"a"),
            Malformed("entry \"a\" comes after \"b\""),
        ),
        case(
            "unsorted-capitals",
            "in the order of people",
            || two(b"a", b"B"),
            Malformed("entry \"B\" comes after \"a\""),
        ),
        case(
            "unsorted-prefix",
            "in the order of paths",
            || two(b"a.b", b"a"),
            Malformed("entry \"a\" comes after"),
        ),
        case("duplicate", "which one counts?", || two(b"a", b"a"), Malformed("entry \"a\" comes twice")),
        case(
            "duplicate-link",
            "a link, and then something beyond it",
            || {
                archive(&directory(&[
                    (b"a", link(b"/etc")),
                    (b"a", directory(&[(b"passwd", file(b"root::0"))])),
                ]))
            },
            Malformed("entry \"a\" comes twice"),
        ),
    ]
}

/// What Nix may well send.
fn oddities() -> Vec<NarCase> {
    vec![
        case("file", "a path may be a file", || archive(&file(b"x")), Accepted),
        case("program", "or one that can be run", || archive(&program(b"x")), Accepted),
        case("link-anywhere", "or a link, to whatever", || archive(&link(b"../../../etc/passwd")), Accepted),
        case("empty-directory", "or nothing much", || archive(&directory(&[])), Accepted),
        case("name-of-255-bytes", "as long as may be", || named(&[b'a'; 255]), Accepted),
        case("name-of-no-text", "bytes that are no UTF-8", || named(b"\xff\xfe"), Accepted),
        case("name-with-escape", "what moves a terminal's cursor", || named(b"\x1b[2J\n"), Accepted),
        case("names-but-for-case", "one file to some systems", || two(b"A", b"a"), Accepted),
        case("deep-enough", "directories in directories", || deep(1000), Accepted),
        case(
            "zeros-in-megabytes",
            "a file that compresses well",
            || archive(&file(&vec![0; 8 << 20])),
            Accepted,
        ),
    ]
}

/// Runs one case.
pub fn run(case: &NarCase) -> Result<(), CaseError> {
    let place = tempfile::Builder::new().prefix("mvm-corpus.").tempdir()?;
    let of = |name: &str| place.path().join(name);
    fs::write(of("nar"), (case.archive)())?;
    let program = std::env::current_exe()?;
    let import = measure::measured(&program, &of("report"))?.arg(FLAG).arg(of("store")).arg(of("nar"));
    let output = import.run()?;
    let cost = measure::read(&of("report"))?;
    let said = output.err();
    let (code, expected) = match case.outcome {
        Malformed(words) => (4, words),
        OverLimit(words) => (5, words),
        Accepted => (0, ""),
    };
    ensure!(output.code() == code, "exit code {}, expected {code}: {said}", output.code());
    ensure!(said.contains(expected), "{expected:?} is not in: {said}");
    ensure!(!said.contains(|c: char| c.is_control() && c != '\n'), "control characters in {said:?}");
    let is_accepted = code == 0;
    ensure!(is_accepted || said.contains(SUBJECT), "{SUBJECT} is not in: {said}");
    let scope = of("store/scopes/default");
    let count = |name: &str| fs::read_dir(scope.join(name)).map_or(0, Iterator::count);
    ensure!(count("staging") == 0, "{} files in the staging directory", count("staging"));
    ensure!(count("images") == usize::from(is_accepted), "{} images in the store", count("images"));
    note(cost, format!("nars::{}", case.name), !is_accepted)
}

/// Imports the archive that the arguments name, and ends as mvmctl would. Returns nothing if they ask for something else.
#[expect(clippy::print_stderr, reason = "it stands for mvmctl, of which stderr is read")]
pub fn helper() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != FLAG {
        return None;
    }
    let (store, archive) = (arguments.next()?, arguments.next()?);
    let failed = |kind: ErrorKind, words: String| {
        eprintln!("mvmctl: {words}");
        ExitCode::from(match kind {
            ErrorKind::Verification => 4,
            ErrorKind::Refused => 5,
            _ => 1,
        })
    };
    Some(match fs::read(archive) {
        Err(error) => failed(ErrorKind::Failure, error.to_string()),
        Ok(bytes) => match import(Path::new(&store), bytes) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(error.kind(), chain(&error)),
        },
    })
}

/// The archives of the guest's description and of what it refers to.
struct Sent([Vec<u8>; 2]);

impl NarSource for Sent {
    fn nars<'a>(&'a mut self, paths: &[StorePath]) -> Result<Box<dyn Read + 'a>, EngineError> {
        let of = |path: &StorePath| &self.0[usize::from(path.to_string() != SUBJECT)];
        Ok(Box::new(Cursor::new(paths.iter().flat_map(|path| of(path).clone()).collect::<Vec<u8>>())))
    }
}

fn import(store: &Path, subject: Vec<u8>) -> Result<(), EngineError> {
    let guest = json!({
        "schema": "mvm.guest.v1", "name": "d", "hostname": "d", "system": "x86_64-linux", "rootfsType": "erofs",
        "packages": [SUBJECT], "serviceGroup": "mvm", "users": {}, "services": {}, "healthChecks": {},
        "shell": null, "env": null, "caBundle": null, "command": null, "variables": {},
    });
    let guest = archive(&file(guest.to_string().as_bytes()));
    let path = |text: &str| text.parse::<StorePath>().expect("a path of ours");
    let info = |name: &str, nar: &[u8], references: &[&str]| PathInfo {
        path: path(name),
        nar_hash: NarHash::from(Digest::of(nar)),
        nar_size: nar.len() as u64,
        references: references.iter().map(|name| path(name)).collect(),
        deriver: None,
        signatures: Vec::new(),
        ca: None,
    };
    let infos = vec![info(GUEST, &guest, &[SUBJECT]), info(SUBJECT, &subject, &[])];
    let closure = Closure::new(infos).expect("a closure that is closed");
    let engine = Engine::open(settings(store))?;
    let (facts, cancel) = (facts(path), Cancel::default());
    let mut source = Sent([subject, guest]);
    engine
        .import_closure(
            &closure,
            &path(GUEST),
            &mut source,
            &facts,
            std::slice::from_ref(&facts.flake),
            &Silent,
            &cancel,
        )
        .map(drop)
}

fn settings(store: &Path) -> Settings {
    Settings {
        root: store.to_owned(),
        scope: ScopeName::default(),
        guest: b"",
        flake_library: FlakeLibrary::new(&[]),
        program: "/bin/false".into(),
        program_path: "/bin".into(),
        auth_files: Vec::new(),
        login_file: None,
        helper_environment: Default::default(),
        network: FetchConfig::default(),
        unpack: None,
        kvm: "/dev/null".into(),
    }
}

fn facts(path: impl Fn(&str) -> StorePath) -> BuildFacts {
    let nothing = Digest::of(b"");
    BuildFacts {
        flake: "flake:/corpus".to_owned(),
        attribute: "packages.x86_64-linux.default".to_owned(),
        system: NixSystem::X86_64Linux,
        profile: None,
        revision: None,
        source: nothing,
        lock: None,
        overrides: Default::default(),
        derivation: path(&format!("{GUEST}.drv")),
        outputs: [("out".to_owned(), path(GUEST))].into(),
        nix_version: "2.26.3".to_owned(),
        builder: BuilderFacts { image: "builder".to_owned(), manifest: nothing, root_hash: nothing },
        library: nothing,
        parameters: Default::default(),
        online: false,
    }
}
