use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

fn group(name: &str, gid: u32) -> Group {
    Group { name: name.to_owned(), gid }
}

fn user(name: &str, uid: u32) -> User {
    User { name: name.to_owned(), uid, group: group(name, uid), home: format!("/home/{name}") }
}

#[test]
fn files_get_the_lines_that_they_lack() {
    let users = [user("web", 1000), user("root", 5)];
    let with = |old: &str| with_users(old.as_bytes(), &users).map(|new| String::from_utf8(new).unwrap());
    let web = "web:x:1000:1000::/home/web:/bin/sh\n";
    for (old, expected) in [
        ("root:x:0:0::/root:/bin/sh\n", Some(format!("root:x:0:0::/root:/bin/sh\n{web}"))),
        ("root:x:0:0::/root:", Some(format!("root:x:0:0::/root:\n{web}"))),
        ("", Some(format!("{web}root:x:5:5::/home/root:/bin/sh\n"))),
        ("root:x:0:0::/:\nweb:x:7:7::/:\n", None),
    ] {
        assert_eq!(with(old), expected, "{old:?}");
    }

    let groups = [group("mvm", 900), group("web", 1000)];
    let with = |old: &str| {
        with_groups(old.as_bytes(), &groups, Some("mvm"), &["web", "db"])
            .map(|new| String::from_utf8(new).unwrap())
    };
    for (old, expected) in [
        ("", Some("mvm:x:900:web,db\nweb:x:1000:\n")),
        ("mvm:x:55:other,web\nweb:x:1:", Some("mvm:x:55:other,web,db\nweb:x:1:")),
        ("a:x:1:\nmvm:x:55:db,web\nweb:x:1:\n", None),
        ("mvm:broken\nweb:x:1:\n", None),
        ("mvm:x:55:\nweb:x:1:", Some("mvm:x:55:web,db\nweb:x:1:")),
    ] {
        assert_eq!(with(old).as_deref(), expected, "{old:?}");
    }
}

#[test]
fn a_root_gets_users_groups_and_homes() {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("etc/static")).unwrap();
    fs::write(root.join("etc/static/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    symlink("static/passwd", root.join("etc/passwd")).unwrap();
    symlink(outside.path(), root.join("home")).unwrap();
    let parsed = r#"{"schema":"mvm.guest.v1","hostname":"h","roots":[{"name":"root","disk":"root",
        "filesystem":"erofs","verity":{"root_hash":"00","salt":"","data_blocks":1,"hash_start_block":1,
        "algorithm":"sha256","block_size":4096},"overlay":{"kind":"none"}}],"processes":[]}"#;
    let mut document: GuestDocument = serde_json::from_str(parsed).unwrap();
    add(root, &document).unwrap();
    assert!(!root.join("etc/group").exists(), "nothing was asked for");

    document.service_group = Some(group("mvm", 900));
    document.users =
        vec![User { home: "/srv/a/web".to_owned(), group: group("web", gid), ..user("web", uid) }];
    add(root, &document).unwrap();
    assert_eq!(
        fs::read_to_string(root.join("etc/passwd")).unwrap(),
        format!("root:x:0:0::/root:/bin/sh\nweb:x:{uid}:{gid}::/srv/a/web:/bin/sh\n")
    );
    assert_eq!(
        fs::read_to_string(root.join("etc/static/passwd")).unwrap(),
        "root:x:0:0::/root:/bin/sh\n",
        "the file is replaced, not written through a link"
    );
    assert_eq!(fs::read_to_string(root.join("etc/group")).unwrap(), format!("mvm:x:900:web\nweb:x:{gid}:\n"));
    assert_eq!(fs::metadata(root.join("srv/a/web")).unwrap().uid(), uid);
    let before = fs::metadata(root.join("etc/passwd")).unwrap().ino();
    add(root, &document).unwrap();
    assert_eq!(fs::metadata(root.join("etc/passwd")).unwrap().ino(), before, "there was nothing to add");

    // A home through a link is one inside the root, which has no such directory.
    document.users.push(User { group: group("x", gid), ..user("x", uid) });
    assert!(add(root, &document).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_service_as_the_service_group_has_a_user_of_that_name() {
    let parsed = r#"{"schema":"mvm.guest.v1","hostname":"h","roots":[],"processes":[],
        "service_group":{"name":"mvm","gid":900},"services":[{"process":{"name":"web","root":"root",
        "argv":["/web"],"env":[],"working_dir":"","user":"mvm","stop_signal":15,"terminal":false},
        "restart":"always","stop_grace_ms":1000}]}"#;
    let document: GuestDocument = serde_json::from_str(parsed).unwrap();
    let (users, groups) = wanted(&document);
    assert_eq!(users, [User { home: "/".to_owned(), ..user("mvm", 900) }]);
    assert_eq!(groups, [group("mvm", 900)]);
}
