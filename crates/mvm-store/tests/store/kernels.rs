use crate::fixture::names;
use mvm_ref::Digest;
use mvm_store::{Kernel, KernelError, NewKernel, Store};

fn kernel<'a>(image: &'a [u8], modules: Option<&'a [u8]>, info: &'a [u8]) -> NewKernel<'a> {
    NewKernel { digest: Digest::of(image), image, modules, info }
}

#[test]
fn kernels_are_stored_found_replaced_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.kernels().unwrap(), []);
    assert_eq!(store.default_kernel().unwrap(), None);
    let one = store.put_kernel(&kernel(b"one", None, b"{}")).unwrap();
    let two = store.put_kernel(&kernel(b"two", Some(b"cpio"), b"{\"v\":2}")).unwrap();
    let mut both = vec![one.clone(), two.clone()];
    both.sort_by_key(Kernel::digest);
    assert_eq!(store.kernels().unwrap(), both);
    assert_eq!(two.info(), b"{\"v\":2}");
    two.verify().unwrap();
    assert_eq!(std::fs::read(two.image()).unwrap(), b"two");
    assert_eq!(one.modules(), None);
    assert_eq!(std::fs::read(two.modules().unwrap()).unwrap(), b"cpio");

    store.set_default_kernel(&two.digest()).unwrap();
    let default = store.default_kernel().unwrap().unwrap();
    assert_eq!((default.digest(), default.is_default()), (two.digest(), true));
    assert!(!store.kernel(&one.digest()).unwrap().unwrap().is_default());

    let replaced = store.put_kernel(&kernel(b"two", None, b"{\"v\":3}")).unwrap();
    assert_eq!((replaced.info(), replaced.modules(), replaced.is_default()), (&b"{\"v\":3}"[..], None, true));

    assert!(store.remove_kernel(&two.digest()).unwrap() > 0);
    assert_eq!(store.default_kernel().unwrap(), None);
    assert_eq!(store.kernels().unwrap(), std::slice::from_ref(&one));
    assert_eq!(names(&directory.path().join("kernels")), [one.digest().hex()]);
    let missing = two.digest();
    for error in [
        store.remove_kernel(&missing).unwrap_err(),
        store.set_default_kernel(&missing).unwrap_err(),
        store.find_kernel(&missing.to_string()).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), format!("no kernel \"{missing}\" in the store"));
    }
}

#[test]
fn a_kernel_is_found_by_the_start_of_its_digest() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    // Both digests start with 5.
    let images: Vec<_> = (0_u32..)
        .map(|n| n.to_string())
        .filter(|n| Digest::of(n.as_bytes()).hex().starts_with('5'))
        .take(2)
        .collect();
    let mut digests: Vec<_> = images
        .iter()
        .map(|image| store.put_kernel(&kernel(image.as_bytes(), None, b"{}")).unwrap().digest())
        .collect();
    for digest in &digests {
        for asked in [digest.to_string(), digest.hex(), digest.short()] {
            assert_eq!(store.find_kernel(&asked).unwrap().digest(), *digest);
        }
    }
    digests.sort();
    let error = store.find_kernel("sha256:5").unwrap_err();
    assert_eq!(error.to_string(), format!("kernel \"sha256:5\" could be {} or {}", digests[0], digests[1]));
    for asked in ["", "sha256:", "xyz", "../kernels"] {
        let error = store.find_kernel(asked).unwrap_err();
        assert!(matches!(error, KernelError::None { .. }), "{error}");
    }
}

#[test]
fn a_kernel_that_is_not_what_it_says_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let other = Digest::of(b"other");
    let error = store.put_kernel(&NewKernel { digest: other, ..kernel(b"one", None, b"{}") }).unwrap_err();
    assert_eq!(error.to_string(), format!("kernel {other} has digest {}", Digest::of(b"one")));
    assert_eq!(store.kernels().unwrap(), []);
    let stored = store.put_kernel(&kernel(b"one", None, b"{}")).unwrap();
    std::fs::write(stored.image(), b"changed").unwrap();
    assert!(matches!(stored.verify().unwrap_err(), KernelError::Digest { .. }));
}
