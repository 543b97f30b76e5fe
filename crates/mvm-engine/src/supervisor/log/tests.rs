use super::*;
use std::os::unix::fs::PermissionsExt as _;

const LIMIT: u64 = 100;

fn log() -> (tempfile::TempDir, PathBuf, BoundedLog) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("console.log");
    let log = BoundedLog::create(path.clone(), LIMIT).unwrap();
    (directory, path, log)
}

fn old(path: &std::path::Path) -> Vec<u8> {
    fs::read(path.with_extension("log.1")).unwrap_or_default()
}

#[test]
fn a_full_log_becomes_the_old_one() {
    let (_directory, path, mut log) = log();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    log.write(&[b'a'; 60]).unwrap();
    log.write(&[b'b'; 40]).unwrap();
    assert_eq!(
        (fs::read(&path).unwrap(), old(&path)),
        ([[b'a'; 60].as_slice(), &[b'b'; 40]].concat(), vec![])
    );
    log.write(b"c").unwrap();
    assert_eq!((fs::read(&path).unwrap(), old(&path).len()), (b"c".to_vec(), 100));
    log.write(&[b'd'; 99]).unwrap();
    log.write(b"e").unwrap();
    assert_eq!(
        (fs::read(&path).unwrap(), old(&path)),
        (b"e".to_vec(), [b"c".as_slice(), &[b'd'; 99]].concat())
    );
}

#[test]
fn no_more_is_kept_than_twice_the_limit_and_no_less_than_the_last_of_it() {
    for piece in [1, 7, 99, 100, 101, 199, 200, 201, 1000] {
        let (_directory, path, mut log) = log();
        let all: Vec<u8> = (0..3000_u32).map(|n| (n % 251) as u8).collect();
        for bytes in all.chunks(piece) {
            log.write(bytes).unwrap();
            let (new, old) = (fs::read(&path).unwrap(), old(&path));
            assert!(
                new.len() as u64 <= LIMIT && old.len() as u64 <= LIMIT,
                "{piece}: {} {}",
                old.len(),
                new.len()
            );
        }
        for end in [0, 1, 99, 100, 101] {
            assert_eq!(log.end(end).unwrap(), all[all.len() - end as usize..], "{piece}");
        }
        let kept = [old(&path), fs::read(&path).unwrap()].concat();
        assert!(kept.len() as u64 >= LIMIT, "{piece}");
        assert!(all.ends_with(&kept), "{piece}");
    }
}

#[test]
fn a_new_log_is_empty() {
    let (_directory, path, mut log) = log();
    log.write(&[b'b'; 250]).unwrap();
    let mut log = BoundedLog::create(path.clone(), LIMIT).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert_eq!(log.end(10).unwrap(), b"");
    log.write(b"after").unwrap();
    assert_eq!(log.end(10).unwrap(), b"after");
    assert_eq!(fs::read(&path).unwrap(), b"after");
}
