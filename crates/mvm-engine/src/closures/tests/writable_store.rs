//! Guests that build into their store.

use super::*;
use mvm_plan::plan::{Mount, MountSource};

fn import(built: &mut Built, fixture: &Fixture) -> Result<Pulled, EngineError> {
    let parameters = BTreeMap::from([(WRITABLE_STORE.to_owned(), "true".to_owned())]);
    let facts = BuildFacts { parameters, ..facts() };
    let (closure, output, cancel) = (built.closure(), built.output.clone(), Cancel::default());
    let names = [facts.flake.clone(), "docker.io/library/web:1".to_owned()];
    fixture.engine.import_closure(&closure, &output, built, &facts, &names, &Silent, &cancel)
}

#[test]
fn a_root_says_what_its_paths_are() {
    let (here, there) = (fixture(), fixture());
    let (nix, libc) = (store_path("nix"), store_path("libc"));
    let mut document = document(&store_path("busybox"));
    document["packages"] = json!([store_path("busybox"), nix]);
    let mut built = built_of(&document);
    built.add(&nix, nar_of_programs(&[("nix-store", b"#!")]), &[&libc]);
    let output = built.output.clone();
    let busybox = store_path("busybox");
    built.infos.get_mut(&output).unwrap().references.extend([busybox.clone(), nix.clone()]);
    built.infos.get_mut(&libc).unwrap().deriver = Some(store_path("libc.drv"));
    let plain = built.import(&here).unwrap();
    let pulled = import(&mut built, &here).unwrap();
    assert_ne!((pulled.root_hash, pulled.manifest), (plain.root_hash, plain.manifest));
    built.infos.get_mut(&libc).unwrap().deriver = None;
    assert_eq!(import(&mut built, &there).unwrap().root_hash, pulled.root_hash, "whoever made a path");

    let image = here.engine.scope.image_by_root(&pulled.root_hash).unwrap().unwrap();
    let reader = mvm_image::erofs::Reader::open(image.file()).unwrap();
    let text = reader.read_file(b"nix-path-registration", 1 << 20).unwrap().unwrap();
    let mut expected = String::new();
    for info in built.infos.values() {
        let size = built.nars[&info.path].len();
        let references: String = info.references.iter().map(|path| format!("{path}\n")).collect();
        let hash = Digest::of(&built.nars[&info.path]).hex();
        expected.push_str(&format!(
            "{}\n{hash}\n{size}\n\n{}\n{references}",
            info.path,
            info.references.len()
        ));
    }
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    let root = tree(&here, "web:1");
    assert_eq!(root["/nix/var/nix/gcroots/mvm-guest"], format!("symlink 0777 0:0 {output}"));

    // The plan names the Nix that loads it, and a volume for what it writes is no read-only one.
    here.kernel("6.1");
    let mut request = request(&"web:1".parse().unwrap());
    let source = MountSource::Volume { name: "store".parse().unwrap() };
    request.surroundings.mounts = vec![Mount { target: "/nix".to_owned(), source, read_only: false }];
    let draft = here.engine.draft_plan(&request, &Silent, &Cancel::default()).unwrap();
    assert_eq!(draft.plan().writable_store, Some(nix));
    assert!(draft.plan().is_overlay(&draft.plan().mounts[0]));
    request.surroundings.mounts[0].read_only = true;
    let error = here.engine.draft_plan(&request, &Silent, &Cancel::default()).unwrap_err();
    assert!(crate::chain(&error).contains("mounts.read_only"), "{error:?}");
}

#[test]
fn a_guest_without_nix_is_refused() {
    let fixture = fixture();
    let error = import(&mut built(), &fixture).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(crate::chain(&error).contains("none of its packages has bin/nix-store"), "{error:?}");
    assert_eq!(error.hint().as_deref(), Some("add pkgs.nix to the packages of the guest"));
    assert!(fixture.engine.images().unwrap().is_empty());
}
