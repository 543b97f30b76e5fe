use super::*;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
    # a comment:x:7:7\n\
    daemon:x:1:1:daemon:/usr/sbin\n\
    \n\
    broken:x:abc:1::/:\n\
    overflow:x:4294967296:0::/:\n\
    negative:x:-1:0::/:\n\
    short:x\n\
    :x:9:9::/:\n\
    app:x:1000:1001:App:/srv/app:/bin/false\r\n\
    homeless:x:1002:1002::\n\
    \xff\xfe:x:1003:1003::/odd\n\
    twin:x:1000:5::/twin:\n";
const GROUP: &[u8] = b"root:x:0:\n\
    staff:x:50:daemon,app\n\
    app:x:1001:\n\
    adm:x:4: app , other\n\
    again:x:50:app\n\
    broken:x:z:app\n\
    huge:x:99999999999:app\n\
    1234:x:77:\n\
    nobody:x\n";

fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> User {
    User { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
}

#[test]
fn resolves_names_and_numbers() {
    for (spec, expected) in [
        ("", user(0, 0, &[], "/root")),
        (":", user(0, 0, &[], "/root")),
        ("root", user(0, 0, &[], "/root")),
        ("0", user(0, 0, &[], "/root")),
        ("app", user(1000, 1001, &[4, 50], "/srv/app")),
        ("app:", user(1000, 1001, &[4, 50], "/srv/app")),
        ("1000", user(1000, 1001, &[4, 50], "/srv/app")),
        ("app:staff", user(1000, 50, &[], "/srv/app")),
        ("app:0", user(1000, 0, &[], "/srv/app")),
        ("daemon", user(1, 1, &[50], "/usr/sbin")),
        ("homeless", user(1002, 1002, &[], "/")),
        ("4242", user(4242, 0, &[], "/")),
        ("4242:4243", user(4242, 4243, &[], "/")),
        ("4242:staff", user(4242, 50, &[], "/")),
        ("1:1234", user(1, 1234, &[], "/usr/sbin")),
        (":staff", user(0, 50, &[], "/root")),
        ("007", user(7, 0, &[], "/")),
        ("2147483647", user(2_147_483_647, 0, &[], "/")),
    ] {
        assert_eq!(resolve(spec, PASSWD, GROUP).unwrap(), expected, "{spec:?}");
    }
}

#[test]
fn refuses_the_unknown_and_the_out_of_range() {
    for (spec, expected) in [
        ("nobody", "user \"nobody\" is not in the image's /etc/passwd"),
        ("broken", "user \"broken\" is not in the image's /etc/passwd"),
        ("overflow", "user \"overflow\" is not in the image's /etc/passwd"),
        ("negative", "user \"negative\" is not in the image's /etc/passwd"),
        ("a comment", "user \"a comment\" is not in the image's /etc/passwd"),
        ("0x10", "user \"0x10\" is not in the image's /etc/passwd"),
        ("app:nobody", "group \"nobody\" is not in the image's /etc/group"),
        ("app:huge", "group \"huge\" is not in the image's /etc/group"),
        ("app:a:b", "group \"a:b\" is not in the image's /etc/group"),
        ("-1", "user number -1 is out of range, expected 0 to 2147483647"),
        ("2147483648", "user number 2147483648 is out of range, expected 0 to 2147483647"),
        ("4294967296", "user number 4294967296 is out of range, expected 0 to 2147483647"),
        (
            "99999999999999999999",
            "user number 99999999999999999999 is out of range, expected 0 to 2147483647",
        ),
        ("0:4294967296", "group number 4294967296 is out of range, expected 0 to 2147483647"),
        ("0:-5", "group number -5 is out of range, expected 0 to 2147483647"),
    ] {
        let error = resolve(spec, PASSWD, GROUP).unwrap_err();
        assert_eq!(error.to_string(), expected, "{spec:?}");
        assert_eq!(error.kind(), FailureKind::NoSuchUser);
    }
}

#[test]
fn an_image_without_the_files_has_root_and_numbers() {
    assert_eq!(resolve("", b"", b"").unwrap(), user(0, 0, &[], "/"));
    assert_eq!(resolve("10:20", b"", b"").unwrap(), user(10, 20, &[], "/"));
    assert!(resolve("root", b"", b"").is_err());
}
