//! What makes no image.

use super::*;

/// Imports what must be refused. Returns the error's kind and words; asserts that nothing got a name.
fn refused(mut built: Built) -> (ErrorKind, String) {
    let fixture = fixture();
    let error = built.import(&fixture).unwrap_err();
    assert!(fixture.engine.images().unwrap().is_empty());
    (error.kind(), crate::chain(&error))
}

/// Returns the events that tell of a failed check, after an import.
fn failures(mut built: Built) -> usize {
    let fixture = fixture();
    built.import(&fixture).unwrap_err();
    let failed = |event: &Event| matches!(event, Event::Verify { passed: false, .. });
    fixture.events().iter().filter(|event| failed(event)).count()
}

type Change = fn(&mut Built);

#[test]
fn nars_that_are_not_what_was_said_are_refused() {
    let table: [(&str, Change, ErrorKind, &str); 10] = [
        (
            "a lying hash",
            |b| info(b, "libc").nar_hash = Digest::of(b"x").into(),
            ErrorKind::Verification,
            "has hash sha256-",
        ),
        ("a byte of content", |b| nar(b, "libc")[200] ^= 1, ErrorKind::Verification, "has hash sha256-"),
        (
            "a byte of the format",
            |b| nar(b, "libc")[9] ^= 1,
            ErrorKind::Verification,
            "expected nix-archive-1",
        ),
        (
            "a size too small",
            |b| info(b, "libc").nar_size -= 8,
            ErrorKind::Verification,
            "is longer than the",
        ),
        (
            "a size too large",
            |b| info(b, "libc").nar_size += 8,
            ErrorKind::Verification,
            "has 10112 bytes, its description says 10120",
        ),
        ("cut off", |b| nar(b, "libc").truncate(500), ErrorKind::Verification, ""),
        ("surplus", |b| b.surplus = vec![0; 8], ErrorKind::Verification, "sent more than the NARs"),
        (
            "a name that leads out",
            |b| *nar(b, "busybox") = evil_name(),
            ErrorKind::Verification,
            "can't be the name of a directory's entry",
        ),
        (
            "nothing",
            |b| b.nars.values_mut().for_each(Vec::clear),
            ErrorKind::Verification,
            "the NAR ends here",
        ),
        ("padding", |b| *nar(b, "libc").last_mut().unwrap() = 1, ErrorKind::Verification, "padding"),
    ];
    for (name, change, kind, words) in table {
        let mut built = built();
        change(&mut built);
        let (got, text) = refused(built.clone());
        assert_eq!(got, kind, "{name}: {text}");
        assert!(text.contains(words) && text.contains("import /nix/store/"), "{name}: {text}");
        assert!(name == "surplus" || failures(built) == 1, "{name}");
    }
}

fn info<'b>(built: &'b mut Built, name: &str) -> &'b mut PathInfo {
    built.infos.get_mut(&store_path(name)).unwrap()
}

fn nar<'b>(built: &'b mut Built, name: &str) -> &'b mut Vec<u8> {
    built.nars.get_mut(&store_path(name)).unwrap()
}

fn evil_name() -> Vec<u8> {
    [
        words(&[
            "nix-archive-1",
            "(",
            "type",
            "directory",
            "entry",
            "(",
            "name",
            "../etc",
            "node",
            "(",
            "type",
        ]),
        words(&["symlink", "target", "/", ")", ")", ")"]),
    ]
    .concat()
}

#[test]
fn closures_of_something_else_are_refused() {
    let mut more = built();
    more.add(&store_path("stowaway"), nar_of_file(b""), &[]);
    assert!(refused(more).1.contains("which /nix/store/"));
    let mut other = built();
    other.output = store_path("nothing");
    assert!(refused(other).1.contains("does not hold the output"));
    let mut open = built();
    open.infos.remove(&store_path("libc"));
    let error = Closure::new(open.infos.into_values().collect()).unwrap_err();
    assert!(error.to_string().contains("is not closed"), "{error}");
}

#[test]
fn guests_that_cannot_be_made_are_refused() {
    let busybox = store_path("busybox");
    let table: [(&str, Value, ErrorKind, &str); 5] = [
        ("/rootfsType", json!("squashfs"), ErrorKind::Usage, "rootfsType squashfs is not supported"),
        ("/rootfsType", json!("ext4"), ErrorKind::Usage, "rootfsType ext4 is not supported"),
        ("/system", json!("aarch64-linux"), ErrorKind::Usage, "the guest is for aarch64-linux"),
        (
            "/packages",
            json!([store_path("absent")]),
            ErrorKind::Verification,
            "which its closure does not hold",
        ),
        ("/schema", json!("mvm.guest.v9"), ErrorKind::Usage, "is not a guest as mkGuest"),
    ];
    for (pointer, value, kind, words) in table {
        let mut document = document(&busybox);
        *document.pointer_mut(pointer).unwrap() = value;
        let mut built = with_document(&document, &busybox);
        built.add(&busybox, nar_of_programs(&[("sh", b"")]), &[]);
        let (got, text) = refused(built);
        assert_eq!(got, kind, "{pointer}: {text}");
        assert!(text.contains(words), "{pointer}: {text}");
    }
    // The output is a directory.
    let mut built = built();
    let output = built.output.clone();
    built.add(&output, nar_of_programs(&[("x", b"")]), &[&busybox]);
    assert!(refused(built).1.contains("is not the output of mkGuest"));
}

#[test]
fn an_import_stops_where_it_is_told_to_and_goes_on_where_it_was() {
    let fixture = fixture();
    fixture.engine.scope.set_quota(Some(4096)).unwrap();
    let error = built().import(&fixture).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
    assert!(error.hint().unwrap().contains("scope set"), "{error:?}");
    fixture.engine.scope.set_quota(None).unwrap();

    let mut built = built();
    let (closure, output, cancel) = (built.closure(), built.output.clone(), Cancel::default());
    cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
    let error = fixture
        .engine
        .import_closure(&closure, &output, &mut built, &facts(), &[], &Silent, &cancel)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");

    // The last path breaks off: the others are not asked for again.
    let last = built.infos.keys().next_back().unwrap().clone();
    let mut broken = built.clone();
    broken.nars.get_mut(&last).unwrap().truncate(100);
    broken.import(&fixture).unwrap_err();
    built.import(&fixture).unwrap();
    assert_eq!(built.asked, [last]);
}

#[test]
fn the_unpack_policy_holds_for_paths() {
    let mut fixture = fixture();
    let mut policy = mvm_tree::UnpackPolicy::default();
    policy.set("unpacked=1KiB").unwrap();
    fixture.engine.settings.unpack = Some(policy);
    let error = built().import(&fixture).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
    assert!(error.hint().unwrap().contains("--unpack unpacked=SIZE"), "{error:?}");
}
