use super::*;
use crate::{Attributes, Change, Content, Device, Escaped, Kind, Xattr};

#[test]
fn settings_are_taken_by_name() {
    let usual = UnpackPolicy::default;
    let cases: [(&str, UnpackPolicy); 20] = [
        ("whiteouts=refuse", UnpackPolicy { whiteouts: Rule::Refuse, ..usual() }),
        ("whiteouts=apply", usual()),
        ("symlink-depth=0", UnpackPolicy { symlink_depth: 0, ..usual() }),
        ("absolute-symlinks=refuse", UnpackPolicy { absolute_symlinks: Rule::Refuse, ..usual() }),
        ("hardlinks=same-layer", UnpackPolicy { hard_links: HardLinks::SameLayer, ..usual() }),
        ("set-id=refuse", UnpackPolicy { set_id: Rule::Refuse, ..usual() }),
        ("file-capabilities=refuse", UnpackPolicy { file_capabilities: Rule::Refuse, ..usual() }),
        ("devices=any", UnpackPolicy { devices: Devices::Any, ..usual() }),
        ("devices=refuse", UnpackPolicy { devices: Devices::Refuse, ..usual() }),
        ("max-uid=65535", UnpackPolicy { max_uid: 65_535, ..usual() }),
        ("entries=10", UnpackPolicy { entries: 10, ..usual() }),
        ("unpacked=10GiB", UnpackPolicy { unpacked_bytes: 10 << 30, ..usual() }),
        ("apparent=1TiB", UnpackPolicy { apparent_bytes: 1 << 40, ..usual() }),
        ("layers=1000", UnpackPolicy { layers: 1000, ..usual() }),
        ("path=1KiB", UnpackPolicy { path_bytes: 1024, ..usual() }),
        ("name=143", UnpackPolicy { name_bytes: 143, ..usual() }),
        ("xattrs=4KiB", UnpackPolicy { xattr_bytes_per_entry: 4096, ..usual() }),
        ("metadata=1MiB", UnpackPolicy { metadata_bytes: 1 << 20, ..usual() }),
        ("ratio=0", UnpackPolicy { ratio: u64::MAX, ..usual() }),
        ("ratio-from=0", UnpackPolicy { ratio_from: 0, ..usual() }),
    ];
    for (setting, want) in cases {
        let mut policy = usual();
        assert_eq!(policy.set(setting), Ok(()), "{setting}");
        assert_eq!(policy, want, "{setting}");
    }
}

#[test]
fn other_settings_are_refused_with_what_there_is() {
    let names = "whiteouts, symlink-depth, absolute-symlinks, hardlinks, set-id, file-capabilities, devices, max-uid, \
                 entries, unpacked, apparent, layers, path, name, xattrs, metadata, ratio, ratio-from";
    let cases = [
        ("entries", format!("\"entries\" is not of the form NAME=VALUE; names are {names}")),
        ("Entries=1", format!("there is no setting \"Entries\"; names are {names}")),
        ("=1", format!("there is no setting \"\"; names are {names}")),
        ("devices=all", "devices is \"all\", expected refuse or usual or any".to_owned()),
        ("set-id=", "set-id is \"\", expected refuse or keep".to_owned()),
        ("entries=-1", "entries is \"-1\", expected a number up to 1073741824".to_owned()),
        ("entries=1KiB", "entries is \"1KiB\", expected a number up to 1073741824".to_owned()),
        ("max-uid=4294967295", "max-uid is \"4294967295\", expected a number up to 4294967294".to_owned()),
        (
            "name=256",
            "name is \"256\", expected bytes up to 255, or a number with KiB, MiB or GiB".to_owned(),
        ),
        (
            "path=KiB",
            "path is \"KiB\", expected bytes up to 4096, or a number with KiB, MiB or GiB".to_owned(),
        ),
        ("ratio=x", "ratio is \"x\", expected a number, 0 for no limit".to_owned()),
    ];
    for (setting, want) in cases {
        let mut policy = UnpackPolicy::default();
        let error = policy.set(setting).expect_err(setting);
        assert_eq!(error.to_string(), want);
        assert_eq!(policy, UnpackPolicy::default());
    }
    let mut policy = UnpackPolicy::default();
    for huge in ["unpacked=99999999999999999999", "unpacked=18446744073709551615TiB"] {
        assert!(policy.set(huge).is_err(), "{huge}");
    }
}

#[test]
fn records_give_the_policy_back() {
    let settings =
        ["devices=any", "hardlinks=refuse", "ratio=0", "unpacked=123", "symlink-depth=7", "whiteouts=refuse"];
    let mut policy = UnpackPolicy::default();
    for setting in settings {
        policy.set(setting).expect(setting);
        assert_eq!(UnpackPolicy::from_record(&policy.to_record()), policy, "{setting}");
    }
    let loosest = UnpackPolicy::loosest();
    assert_eq!(UnpackPolicy::from_record(&loosest.to_record()), loosest);
    // What another version writes is as loose as can be.
    assert_eq!(UnpackPolicy::from_record(""), loosest);
    let partly = UnpackPolicy::from_record("moon-phase=full entries=5");
    assert_eq!(partly, UnpackPolicy { entries: 5, ..loosest });
}

#[test]
fn policies_are_compared_setting_by_setting() {
    let usual = UnpackPolicy::default();
    let loosest = UnpackPolicy::loosest();
    assert!(usual.is_within(&usual) && usual.is_within(&loosest) && !loosest.is_within(&usual));
    let looser =
        ["devices=any", "entries=2000001", "ratio=0", "ratio-from=2GiB", "layers=513", "metadata=1GiB"];
    for setting in looser {
        let mut policy = usual.clone();
        policy.set(setting).expect(setting);
        assert!(usual.is_within(&policy) && !policy.is_within(&usual), "{setting}");
    }
    let mut mixed = usual.clone();
    mixed.set("devices=any").expect("a setting");
    mixed.set("entries=5").expect("a setting");
    assert!(!usual.is_within(&mixed) && !mixed.is_within(&usual));
}

fn node(mode: u16, kind: Kind) -> Change {
    let attributes = Attributes { mode, ..Attributes::default() };
    Change::Put { path: (*b"a").into(), attributes, kind }
}

#[test]
fn each_rule_refuses_what_it_names() {
    let file = || Kind::Regular(Content::default());
    let owner = |uid, gid| {
        let attributes = Attributes { uid, gid, ..Attributes::default() };
        Change::Put { path: (*b"a").into(), attributes, kind: file() }
    };
    let xattr = |name: &[u8], len| {
        let xattrs = [Xattr { name: name.into(), value: vec![0; len].into() }].into();
        let attributes = Attributes { xattrs, ..Attributes::default() };
        Change::Put { path: (*b"a").into(), attributes, kind: file() }
    };
    let link = || Change::Link { path: (*b"a").into(), target: (*b"b").into() };
    let symlink = |target: &[u8]| node(0o777, Kind::Symlink(target.into()));
    let disk = || node(0, Kind::BlockDevice(Device { major: 8, minor: 0 }));
    let null = || node(0, Kind::CharDevice(Device { major: 1, minor: 3 }));
    let device = |kind, major, minor| Some(Breach::Device { kind, major, minor });
    let over = |knob, what, got, limit| Some(Breach::OverLimit { knob, what, got, limit });
    let b = || Escaped::new(b"b");
    let long = || symlink(&[b'b'; 4096]);
    let cases: [(&str, Change, Option<Breach>); 28] = [
        ("whiteouts=refuse", Change::Whiteout { path: (*b"a").into() }, Some(Breach::Whiteout)),
        ("whiteouts=refuse", Change::Opaque { path: (*b"a").into() }, Some(Breach::Whiteout)),
        ("whiteouts=apply", Change::Opaque { path: (*b"a").into() }, None),
        ("hardlinks=refuse", link(), Some(Breach::HardLink { target: b() })),
        // Which layer the target is of shows when layers are merged.
        ("hardlinks=same-layer", link(), None),
        (
            "absolute-symlinks=refuse",
            symlink(b"/b"),
            Some(Breach::AbsoluteSymlink { target: Escaped::new(b"/b") }),
        ),
        ("absolute-symlinks=refuse", symlink(b"b"), None),
        ("absolute-symlinks=keep", symlink(b"/b"), None),
        ("path=4096", long(), over(Knob::Path, "bytes of a path", 4096, 4095)),
        ("set-id=keep", node(0o4755, file()), None),
        ("set-id=refuse", node(0o4755, file()), Some(Breach::SetId { mode: 0o4755 })),
        ("set-id=refuse", node(0o2644, file()), Some(Breach::SetId { mode: 0o2644 })),
        ("set-id=refuse", node(0o2775, Kind::Directory), None),
        ("set-id=refuse", node(0o1777, file()), None),
        ("file-capabilities=refuse", xattr(b"security.capability", 20), Some(Breach::FileCapability)),
        ("file-capabilities=refuse", xattr(b"security.ima", 20), None),
        ("file-capabilities=keep", xattr(b"security.capability", 20), None),
        ("xattrs=10", xattr(b"user.a", 5), over(Knob::Xattrs, "bytes of extended attributes", 11, 10)),
        ("xattrs=10", xattr(b"user.a", 4), None),
        ("devices=usual", disk(), device("block", 8, 0)),
        ("devices=usual", null(), None),
        ("devices=any", disk(), None),
        ("devices=refuse", null(), device("character", 1, 3)),
        ("max-uid=4294967294", owner(u32::MAX - 1, 0), None),
        ("max-uid=4294967294", owner(u32::MAX, 0), over(Knob::MaxUid, "uid", 4_294_967_295, 4_294_967_294)),
        ("max-uid=4294967294", owner(0, u32::MAX), over(Knob::MaxUid, "gid", 4_294_967_295, 4_294_967_294)),
        ("max-uid=99", owner(100, 0), over(Knob::MaxUid, "uid", 100, 99)),
        ("max-uid=99", owner(99, 99), None),
    ];
    for (setting, change, want) in cases {
        let mut policy = UnpackPolicy::default();
        policy.set(setting).expect(setting);
        assert_eq!(policy.check(Item::from(&change)).err(), want, "{setting}: {change:?}");
        // The same where stored layers are merged.
        let mut merge = crate::Merge::new(&policy);
        merge.begin_layer();
        let got = match merge.apply(change).err() {
            Some(crate::MergeError::Policy { source, .. }) => Some(source),
            None | Some(crate::MergeError::TargetMissing { .. }) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(got, want, "{setting}");
        assert!(want.is_none_or(|breach| setting.starts_with(breach.knob().name())), "{setting}");
    }
}

#[test]
fn hard_links_to_other_layers_are_told_apart() {
    let put = |path: &[u8]| Change::Put {
        path: path.into(),
        attributes: Attributes::default(),
        kind: Kind::Regular(Content::default()),
    };
    let link = |path: &[u8], target: &[u8]| Change::Link { path: path.into(), target: target.into() };
    let policy = UnpackPolicy { hard_links: HardLinks::SameLayer, ..UnpackPolicy::default() };
    let mut merge = crate::Merge::new(&policy);
    merge.begin_layer();
    merge.apply(put(b"a")).expect("a file");
    merge.apply(link(b"b", b"a")).expect("a link within the layer");
    merge.begin_layer();
    merge.apply(put(b"c")).expect("a file");
    merge.apply(link(b"d", b"c")).expect("a link within the layer");
    let source = Breach::HardLinkAcross { target: Escaped::new(b"a") };
    let want = crate::MergeError::Policy { path: Escaped::new(b"e"), source };
    assert_eq!(merge.apply(link(b"e", b"a")), Err(want));
}

#[test]
fn a_budget_is_one_for_all_layers() {
    let policy =
        UnpackPolicy { entries: 3, unpacked_bytes: 10, apparent_bytes: 20, ..UnpackPolicy::default() };
    let over = |knob, what, got, limit| Err(Breach::OverLimit { knob, what, got, limit });
    let budget = Budget::new(&policy);
    for _ in 0..3 {
        assert_eq!(budget.take_entry(), Ok(()));
    }
    assert_eq!(budget.take_entry(), over(Knob::Entries, "entries", 4, 3));
    assert_eq!(budget.take_file(6, 6), Ok(()));
    assert_eq!(budget.take_file(4, 14), Ok(()));
    assert_eq!(budget.take_file(1, 1), over(Knob::Unpacked, "bytes of file data", 11, 10));
    assert_eq!(
        Budget::new(&policy).take_file(0, 21),
        over(Knob::Apparent, "bytes of files, with holes", 21, 20)
    );
    let huge = i64::MAX as u64;
    let loose = Budget::new(&UnpackPolicy { apparent_bytes: 20, ..UnpackPolicy::loosest() });
    for got in [huge, u64::MAX - 1] {
        let want = over(Knob::Apparent, "bytes of files, with holes", got, 20);
        assert_eq!(loose.take_file(0, huge), want);
    }
    // Nor may headers and padding have no end.
    let policy = UnpackPolicy { unpacked_bytes: 10, ..UnpackPolicy::default() };
    let limit = (64 << 30) + 10;
    assert_eq!(policy.check_archive(limit), Ok(()));
    assert_eq!(
        policy.check_archive(limit + 1),
        over(Knob::Unpacked, "bytes of the archive", limit + 1, limit)
    );
}
