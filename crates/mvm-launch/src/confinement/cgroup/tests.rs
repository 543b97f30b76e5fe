use super::*;
use std::os::fd::BorrowedFd;

/// Files in place of the kernel's tree, which a test can't have.
fn tree(groups: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, controllers) in groups {
        let path = directory.path().join(path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        fs::write(path.join("cgroup.subtree_control"), "").unwrap();
        fs::write(path.join("cgroup.procs"), "").unwrap();
    }
    directory
}

fn task(cpus: u32, memory_mib: u32, accelerator: Accelerator) -> Task<'static> {
    let readable: &[BorrowedFd<'_>] = &[];
    Task { program: Path::new("/qemu"), cpus, memory_mib, accelerator, readable, largest_file: 0 }
}

#[test]
fn a_place_is_found_or_what_is_missing_is_said() {
    let all = "cpuset cpu io memory hugetlb pids\n";
    let directory =
        tree(&[("", all), ("user", all), ("user/app", all), ("few", "hugetlb cpu\n"), ("few/own", "")]);
    let mount = directory.path();
    let find = |own: &str, root| find_in(&[Path::new("/no/such/mount"), mount], own, root);
    let at = |name: &str| Tree {
        directory: mount.join(name),
        controllers: ["memory", "pids", "cpu"].map(str::to_owned).to_vec(),
    };
    assert_eq!(find("", true), Ok(at("mvm")));
    assert_eq!(find("1:memory:/x\n0::/user/app\n", false), Ok(at("user")));
    let lacking = format!("cgroup v2 has no memory controller in {}", mount.join("few").display());
    assert_eq!(find("0::/few/own\n", false), Err(lacking));
    assert_eq!(find("1:memory:/x\n", false), Err("this process is in no group of cgroup v2".to_owned()));
    assert_eq!(find("0::/\n", false), Err("this process is at the top of the tree".to_owned()));
    fs::write(mount.join("user/cgroup.procs"), "17\n").unwrap();
    assert!(find("0::/user/app\n", false).unwrap_err().contains("is not delegated to this user"));
    assert_eq!(find_in(&[Path::new("/no")], "", true), Err("cgroup v2 is not mounted".to_owned()));
}

#[test]
fn limits_follow_the_machine() {
    let told = |task: &Task<'_>| limits(task).map(|(_, file, value)| format!("{file} {value}"));
    assert_eq!(
        told(&task(1, 512, Accelerator::Kvm)),
        ["memory.max 1073741824", "pids.max 130", "cpu.max 200000 100000"]
    );
    assert_eq!(
        told(&task(4, 512, Accelerator::Tcg)),
        ["memory.max 2147483648", "pids.max 136", "cpu.max 500000 100000"]
    );
}

#[test]
fn a_group_is_made_limited_and_removed() {
    let directory = tree(&[("", "memory pids\n"), ("mvm", "memory pids\n")]);
    let tree = find_in(&[directory.path()], "", true).unwrap();
    assert_eq!(
        tree.describe(),
        format!("a group below {} that limits memory, pids", tree.directory.display())
    );
    // The group of a supervisor that was killed, and what is not ours.
    let gone = tree.directory.join(format!("{PREFIX}{}-1", u32::MAX));
    let other = tree.directory.join("mvm-vm-x");
    fs::create_dir(&gone).unwrap();
    fs::create_dir(&other).unwrap();
    assert_eq!(sweep_in(&tree.directory, true), std::slice::from_ref(&gone));
    assert!(gone.exists());
    fs::write(gone.join("cgroup.procs"), "1\n").unwrap();
    assert_eq!(sweep_in(&tree.directory, true), [] as [PathBuf; 0], "somebody is in it");
    fs::remove_file(gone.join("cgroup.procs")).unwrap();
    let group = Group::make(&tree).unwrap();
    assert!(!gone.exists() && other.exists());
    for file in ["memory.max", "pids.max", "cgroup.procs"] {
        fs::write(group.path.join(file), "").unwrap();
    }
    let told = group.limit(&task(2, 256, Accelerator::Kvm)).unwrap();
    assert_eq!(told, format!("{}: memory.max 805306368, pids.max 132", group.path.display()));
    assert_eq!(fs::read_to_string(group.path.join("memory.max")).unwrap(), "805306368");
    // The kernel takes one word after the other; a file keeps the last.
    let enabled = fs::read_to_string(directory.path().join("cgroup.subtree_control")).unwrap();
    assert!(enabled.starts_with("+pids"), "{enabled}");
    let mut door = group.door().unwrap();
    door.write_all(b"0").unwrap();
    assert_eq!(sweep_in(&tree.directory, false), [] as [PathBuf; 0]);
    assert!(group.path.exists(), "its supervisor lives");
    let path = group.path.clone();
    for file in ["memory.max", "pids.max", "cgroup.procs"] {
        fs::remove_file(path.join(file)).unwrap();
    }
    drop(group);
    assert!(!path.exists());
}
