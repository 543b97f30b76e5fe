//! Closures that are made here, of the NARs that are made here.

mod refusals;
mod trusted;
mod writable_store;

use super::*;
use crate::engine::tests::{Fixture, fixture};
use crate::error::ErrorKind;
use crate::image_tree::Digests;
use crate::progress::Silent;
use crate::run::{PullPolicy, RunRequest, Surroundings, Workload};
use mvm_plan::plan::{Posture, Source};
use mvm_ref::nix::{NarHash, PathInfo};
use mvm_ref::{ImageSource, NixSystem, Reference};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

/// Writes a text with its length and padding.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat();
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn words(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|word| text(word.as_bytes())).collect()
}

/// Returns the NAR of a file.
fn nar_of_file(data: &[u8]) -> Vec<u8> {
    [words(&["nix-archive-1", "(", "type", "regular", "contents"]), text(data), words(&[")"])].concat()
}

/// Returns the NAR of a directory `bin` with programs.
fn nar_of_programs(programs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out =
        words(&["nix-archive-1", "(", "type", "directory", "entry", "(", "name", "bin", "node", "("]);
    out.extend(words(&["type", "directory"]));
    for (name, data) in programs {
        out.extend(words(&["entry", "(", "name", name, "node", "(", "type", "regular", "executable", ""]));
        out.extend([words(&["contents"]), text(data), words(&[")", ")"])].concat());
    }
    out.extend(words(&[")", ")", ")"]));
    out
}

/// A path named `name`, which begins with digits that stand for it alone.
fn store_path(name: &str) -> StorePath {
    let digits: String = Digest::of(name.as_bytes()).hex().replace('e', "z")[..32].to_owned();
    format!("/nix/store/{digits}-{name}").parse().unwrap()
}

/// What a builder has.
#[derive(Clone)]
struct Built {
    infos: BTreeMap<StorePath, PathInfo>,
    nars: BTreeMap<StorePath, Vec<u8>>,
    output: StorePath,
    /// What was asked for, in its order.
    asked: Vec<StorePath>,
    /// What comes after the NARs.
    surplus: Vec<u8>,
}

impl NarSource for Built {
    fn nars<'a>(&'a mut self, paths: &[StorePath]) -> Result<Box<dyn Read + 'a>, EngineError> {
        self.asked = paths.to_vec();
        let mut bytes: Vec<u8> = paths.iter().flat_map(|path| self.nars[path].clone()).collect();
        bytes.extend(&self.surplus);
        Ok(Box::new(Cursor::new(bytes)))
    }
}

impl Built {
    fn add(&mut self, path: &StorePath, nar: Vec<u8>, references: &[&StorePath]) {
        let info = PathInfo {
            path: path.clone(),
            nar_hash: NarHash::from(Digest::of(&nar)),
            nar_size: nar.len() as u64,
            references: references.iter().map(|path| (*path).clone()).collect(),
            deriver: None,
            signatures: vec![],
            ca: None,
        };
        self.infos.insert(path.clone(), info);
        self.nars.insert(path.clone(), nar);
    }

    fn closure(&self) -> Closure {
        Closure::new(self.infos.values().cloned().collect()).unwrap()
    }

    fn import(&mut self, fixture: &Fixture) -> Result<Pulled, EngineError> {
        let (closure, output) = (self.closure(), self.output.clone());
        let names = [facts().flake, "docker.io/library/web:1".to_owned()];
        let cancel = Cancel::default();
        fixture.engine.import_closure(&closure, &output, self, &facts(), &names, &Silent, &cancel)
    }
}

fn document(busybox: &StorePath) -> Value {
    json!({
        "schema": "mvm.guest.v1", "name": "web", "hostname": "web.example", "system": "x86_64-linux",
        "rootfsType": "erofs", "packages": [busybox], "serviceGroup": "mvm",
        "users": {"alice": {"uid": 1000, "group": "alice", "gid": 1000, "home": "/home/alice"}},
        "services": {"http": {
            "command": "httpd -f", "preStart": null, "env": {"A": "b"}, "user": "alice", "logFile": "/dev/console",
            "after": [], "restart": "on-failure", "stopGraceSecs": 3,
            "limits": {"memoryMiB": 64, "pids": null, "cpuPercent": null},
        }},
        "healthChecks": {"http": {
            "healthCmd": ["/bin/true"], "healthIntervalSecs": 30, "healthTimeoutSecs": 10, "startupGraceSecs": 0,
            "service": "http",
        }},
        "shell": format!("{busybox}/bin/sh"), "env": null, "caBundle": null, "command": null,
        "variables": {"TZ": "UTC"},
    })
}

/// A guest with one package, and a path that the package refers to.
fn built() -> Built {
    built_of(&document(&store_path("busybox")))
}

fn built_of(document: &Value) -> Built {
    let (libc, busybox) = (store_path("libc"), store_path("busybox"));
    let mut built = with_document(document, &busybox);
    built.add(&libc, nar_of_file(&[7; 10_000]), &[]);
    built.add(&busybox, nar_of_programs(&[("sh", b"#!sh"), ("true", &[1; 5000])]), &[&libc]);
    built
}

fn with_document(document: &Value, busybox: &StorePath) -> Built {
    let output = store_path("mvm-guest-web.json");
    let mut built = Built {
        infos: BTreeMap::new(),
        nars: BTreeMap::new(),
        output: output.clone(),
        asked: vec![],
        surplus: vec![],
    };
    built.add(&output, nar_of_file(document.to_string().as_bytes()), &[busybox]);
    built
}

fn facts() -> BuildFacts {
    let path = |name: &str| store_path(name);
    BuildFacts {
        flake: "flake:/src#web".to_owned(),
        attribute: "packages.x86_64-linux.web".to_owned(),
        system: NixSystem::X86_64Linux,
        profile: None,
        revision: None,
        source: Digest::of(b"source"),
        lock: Some(Digest::of(b"lock")),
        overrides: BTreeMap::new(),
        derivation: path("mvm-guest-web.json.drv"),
        outputs: BTreeMap::from([("out".to_owned(), path("mvm-guest-web.json"))]),
        nix_version: "2.26.3".to_owned(),
        builder: BuilderFacts {
            image: "mvm-builder".to_owned(),
            manifest: Digest::of(b"builder"),
            root_hash: Digest::of(b"root"),
        },
        library: Digest::of(b"library"),
        parameters: BTreeMap::new(),
        online: false,
    }
}

/// Returns kind, mode, owner and link target of what an image has.
fn tree(fixture: &Fixture, image: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let each = |entry: crate::TreeEntry| {
        let owner = format!("{}:{}", entry.uid, entry.gid);
        let target = entry.target.map(|target| format!(" {}", target.as_ref())).unwrap_or_default();
        let words = format!("{} {} {owner}{target}", entry.kind, entry.mode);
        found.insert(entry.path.as_ref().to_owned(), words);
        Ok::<_, EngineError>(())
    };
    fixture.engine.image_tree(image, b"", Digests::Omitted, &Cancel::default(), each).unwrap();
    found
}

#[test]
fn a_closure_becomes_an_image() {
    let fixture = fixture();
    let mut built = built();
    let pulled = built.import(&fixture).unwrap();
    assert_eq!(built.asked, built.infos.keys().cloned().collect::<Vec<_>>(), "in order of path");

    let found = tree(&fixture, "web:1");
    let busybox = store_path("busybox");
    let libc = store_path("libc");
    for (path, expected) in [
        (format!("{busybox}"), "directory 0555 0:0".to_owned()),
        (format!("{busybox}/bin/true"), "file 0555 0:0".to_owned()),
        (format!("{libc}"), "file 0444 0:0".to_owned()),
        ("/bin/sh".to_owned(), format!("symlink 0777 0:0 {busybox}/bin/sh")),
        ("/etc/passwd".to_owned(), "file 0644 0:0".to_owned()),
        ("/home/alice".to_owned(), "directory 0700 1000:1000".to_owned()),
        ("/tmp".to_owned(), "directory 1777 0:0".to_owned()),
        ("/mnt/secrets".to_owned(), "directory 0755 0:0".to_owned()),
    ] {
        assert_eq!(found.get(&path), Some(&expected), "{path}");
    }
    assert!(!found.contains_key("/usr/bin/env"), "the closure has none");

    let image = fixture.engine.scope.image_by_root(&pulled.root_hash).unwrap().unwrap();
    let reader = mvm_image::erofs::Reader::open(image.file()).unwrap();
    let read = |path: &[u8]| String::from_utf8(reader.read_file(path, 1 << 20).unwrap().unwrap()).unwrap();
    assert_eq!(
        read(b"etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nmvm:x:900:900::/:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
         nobody:x:65534:65534::/var/empty:/bin/false\n"
    );
    assert_eq!(read(b"etc/group"), "root:x:0:\nmvm:x:900:alice\nalice:x:1000:\nnogroup:x:65534:\n");
    assert_eq!(read(&libc.relative().into_bytes()).as_bytes(), [7; 10_000]);
    let env = &pulled.config.process().env;
    assert_eq!(env, &[format!("PATH={busybox}/bin:/usr/bin:/bin"), "TZ=UTC".to_owned()]);
}

#[test]
fn homes_lie_where_the_guest_says() {
    let fixture = fixture();
    let mut document = document(&store_path("busybox"));
    for (uid, home) in
        [(1001, "/srv/deep/b"), (1002, "/srv/c/"), (1003, "/"), (1004, "/var/lib"), (1005, "/nix/d")]
    {
        document["users"][format!("u{uid}")] =
            json!({"uid": uid, "group": "alice", "gid": 1000, "home": home});
    }
    built_of(&document).import(&fixture).unwrap();
    let found = tree(&fixture, "web:1");
    for (path, expected) in [
        ("/srv", Some("directory 0755 0:0")),
        ("/srv/deep", Some("directory 0755 0:0")),
        ("/srv/deep/b", Some("directory 0700 1001:1000")),
        ("/srv/c", Some("directory 0700 1002:1000")),
        ("/var/lib", Some("directory 0755 0:0")),
        ("/nix/d", None),
    ] {
        assert_eq!(found.get(path).map(String::as_str), expected, "{path}");
    }
}

#[test]
fn the_same_closure_makes_the_same_image_elsewhere_and_moves_nothing_here() {
    let (here, there) = (fixture(), fixture());
    let mut built = built();
    let first = built.import(&here).unwrap();
    assert_eq!(built.import(&there).unwrap().root_hash, first.root_hash);
    assert_eq!(built.asked.len(), 3);
    built.asked.clear();
    let again = built.import(&here).unwrap();
    assert_eq!((again.root_hash, again.manifest), (first.root_hash, first.manifest));
    assert!(built.asked.is_empty(), "{:?}", built.asked);

    // One path is another one: that one is asked for, with what names it.
    let (old, new) = (store_path("busybox"), store_path("busybox-2"));
    let mut changed = with_document(&document(&new), &new);
    changed.output = store_path("mvm-guest-web-2.json");
    let (_, nar) = changed.nars.pop_first().unwrap();
    changed.infos.clear();
    let output = changed.output.clone();
    changed.add(&output, nar, &[&new]);
    let libc = store_path("libc");
    changed.add(&libc, built.nars[&libc].clone(), &[]);
    changed.add(&new, nar_of_programs(&[("sh", b"#!new")]), &[&libc]);
    let third = changed.import(&here).unwrap();
    assert_ne!(third.root_hash, first.root_hash);
    assert_eq!(changed.asked.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&new, &output]));
    let found = tree(&here, "web:1");
    assert!(!found.contains_key(&old.to_string()));
}

#[test]
fn a_damaged_path_is_fetched_anew() {
    let fixture = fixture();
    let mut built = built();
    let first = built.import(&fixture).unwrap();
    let libc = store_path("libc");
    let key = built.infos[&libc].segment_key();
    let segment = fixture.engine.scope.segment(&key, GENERATION).unwrap().unwrap();
    std::fs::write(segment.path().join("leaves"), [0; 64]).unwrap();
    drop(segment);
    fixture.engine.scope.discard_image(&first.root_hash).unwrap();
    let again = built.import(&fixture).unwrap();
    assert_eq!(again.root_hash, first.root_hash);
    fixture.engine.verify_image("web:1", crate::OnDamage::Report).unwrap();
}

fn request(image: &ImageSource) -> RunRequest {
    RunRequest {
        name: Some("vm".parse().unwrap()),
        image: image.clone(),
        platform: Platform::host(),
        pull: PullPolicy::Missing,
        workload: Workload::default(),
        surroundings: Surroundings::default(),
        cpus: 1,
        memory_mib: 256,
        kernel: None,
        scratch_mib: 64,
        policy: vec![],
        isolation: mvm_plan::plan::RequiredIsolation::Any,
        valid_for: 900,
        single_use: false,
        signers: Default::default(),
        image_keys: vec![],
        remove_at_end: false,
        secrets: Vec::new(),
        restart: crate::vm::RestartPolicy::No,
        detached: false,
    }
}

#[test]
fn a_plan_says_what_was_built_and_what_the_guest_does() {
    let fixture = fixture();
    fixture.kernel("6.1");
    let pulled = built().import(&fixture).unwrap();
    for name in ["web:1", "flake:/src#web"] {
        let image: ImageSource = name.parse().unwrap();
        let draft = fixture.engine.draft_plan(&request(&image), &Silent, &Cancel::default()).unwrap();
        let plan = draft.plan();
        assert_eq!(plan.posture, Posture::Reproducible);
        let Source::Flake { manifest, derivation, lock, .. } = &plan.source else { panic!("{plan:?}") };
        let facts = facts();
        assert_eq!((*manifest, derivation, *lock), (pulled.manifest, &facts.derivation, facts.lock));
        assert_eq!((plan.hostname.as_str(), &plan.process), ("web.example", &None));
        let [service] = plan.services.as_slice() else { panic!("{:?}", plan.services) };
        let shell = format!("{}/bin/sh", store_path("busybox"));
        assert_eq!(service.process.argv, [&shell, "-c", "httpd -f"]);
        assert_eq!(service.process.user, "alice");
        assert!(service.process.env.contains(&"A=b".to_owned()), "{:?}", service.process.env);
        assert!(service.process.env.contains(&"TZ=UTC".to_owned()), "{:?}", service.process.env);
        assert_eq!(
            (service.stop_grace_secs, service.limits.memory_mib, &service.log_file),
            (3, Some(64), &None)
        );
        let [check] = plan.health_checks.as_slice() else { panic!("{:?}", plan.health_checks) };
        assert_eq!((check.process.user.as_str(), check.interval_secs), ("alice", 30));
        assert_eq!(plan.users.len(), 1);
        assert_eq!(plan.service_group.as_ref().map(|group| group.gid), Some(900));
    }
    // A command that is given is run beside the services.
    let mut other = request(&"web:1".parse().unwrap());
    other.workload.command = vec!["/bin/sh".to_owned()];
    let draft = fixture.engine.draft_plan(&other, &Silent, &Cancel::default()).unwrap();
    assert_eq!(draft.plan().process.as_ref().unwrap().argv, ["/bin/sh"]);
    assert_eq!(draft.plan().services.len(), 1);
    let signed = fixture.engine.create_plan(&other, &Silent, &Cancel::default()).unwrap();
    let report = fixture.engine.check_plan(signed.as_bytes(), &[]).unwrap();
    assert!(report.rules.iter().any(|rule| rule.rule == mvm_plan::policy::Rule::SignedPaths && rule.passed));
}

#[test]
fn what_can_be_done_with_images_can_be_done_with_this_one() {
    let fixture = fixture();
    let pulled = built().import(&fixture).unwrap();
    let engine = &fixture.engine;
    let details = engine.inspect_image("web:1").unwrap();
    let build = details.build.unwrap();
    assert_eq!((details.posture.as_str(), build.paths.len(), build.trust.builder), ("reproducible", 3, 3));
    assert_eq!(engine.images().unwrap().len(), 2);
    engine.tag_image("web:1", &"other:2".parse::<Reference>().unwrap()).unwrap();
    engine.verify_image("other:2", crate::OnDamage::Report).unwrap();
    let request = crate::SaveRequest {
        images: vec!["web:1".to_owned()],
        format: crate::SaveFormat::OciArchive,
        compression: "none".parse().unwrap(),
    };
    let target = crate::SaveTarget::Stream(&mut Vec::new());
    let error = engine.save_images(&request, target, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("not supported for what was built of a flake"), "{error}");
    engine.collect_garbage(false, Some(0)).unwrap();
    assert_eq!(engine.inspect_image("web:1").unwrap().root.root_hash, pulled.root_hash, "named images stay");
    for name in ["web:1", "other:2", "flake:/src#web"] {
        engine.remove_image(name).unwrap();
    }
    assert!(engine.images().unwrap().is_empty());
}

#[test]
fn provenance_is_signed_and_about_this_image() {
    let (fixture, other) = (fixture(), crate::engine::tests::fixture());
    let pulled = built().import(&fixture).unwrap();
    let found = fixture.engine.verify_provenance("web:1").unwrap();
    assert_eq!(found.signers.len(), 1);
    built().import(&other).unwrap();
    let elsewhere = other.engine.provenance("web:1").unwrap();
    assert_eq!(found.statement, elsewhere.statement, "the same build, the same statement");
    let definition = &found.statement.predicate.build_definition;
    assert_eq!(definition.external_parameters["flake"], "flake:/src#web");
    let names: Vec<&str> = definition.resolved_dependencies.iter().map(|it| it.label.as_str()).collect();
    assert_eq!(names, ["source", "flake.lock", "mvm"]);

    // What another key signed, or what is about another image, is no provenance of this one.
    let path = fixture.path("store/cache/provenance/default").join(format!("{}.json", pulled.manifest.hex()));
    let foreign =
        other.path("store/cache/provenance/default").join(format!("{}.json", pulled.manifest.hex()));
    std::fs::copy(foreign, &path).unwrap();
    let error = fixture.engine.verify_provenance("web:1").unwrap_err();
    assert!(matches!(error, EngineError::Provenance(crate::ProvenanceFailure::Unsigned(_))), "{error:?}");
    let mut changed = found.statement.clone();
    changed.subject[0].digest.insert("dmVeritySha256".to_owned(), Digest::of(b"x").hex());
    let key = crate::keys::local(&fixture.engine.settings.root).unwrap();
    std::fs::write(&path, changed.sign(&[&key]).unwrap().to_json().unwrap()).unwrap();
    let error = fixture.engine.verify_provenance("web:1").unwrap_err();
    assert!(matches!(error, EngineError::Provenance(crate::ProvenanceFailure::Other { .. })), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Verification);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(fixture.engine.provenance("web:1").unwrap_err().kind(), ErrorKind::NotFound);
}
