use super::*;
use crate::dir::Dir;

fn scope() -> (tempfile::TempDir, Dir) {
    let directory = tempfile::Builder::new().prefix("index").tempdir().unwrap();
    let dir = Dir::open_root(&directory.path().canonicalize().unwrap()).unwrap();
    (directory, dir)
}

fn tables(index: &Index) -> Vec<String> {
    index
        .read("list", |connection| {
            let mut query =
                connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
            query.query_map([], |row| row.get(0))?.collect()
        })
        .unwrap()
}

#[test]
fn a_format_1_index_keeps_its_rows() {
    let (_directory, dir) = scope();
    let fixture = Connection::open(dir.join(FILE)).unwrap();
    fixture.execute_batch(include_str!("v1.fixture.sql")).unwrap();
    drop(fixture);
    let index = Index::open(&dir).unwrap();
    let row = index
        .read("read", |connection| {
            connection.query_row(
                "SELECT requested, platform, manifest, index_digest, resolved_at FROM resolutions",
                [],
                |row| {
                    let platform: mvm_ref::Platform = parsed(row, 1)?;
                    Ok((
                        row.get::<_, String>(0)?,
                        platform.to_string(),
                        digest(row, 2)?.hex(),
                        optional_digest(row, 3)?,
                        row.get::<_, i64>(4)?,
                    ))
                },
            )
        })
        .unwrap();
    let expected = (
        "docker.io/library/alpine:3.20".to_owned(),
        "linux/arm64/v8".to_owned(),
        "11".repeat(32),
        None,
        1_700_000_000,
    );
    assert_eq!(row, expected);
    assert_eq!(index.format().unwrap(), MIGRATIONS.len());
}

#[test]
fn each_missing_step_is_taken_once_and_in_order() {
    let (_directory, dir) = scope();
    let steps = ["CREATE TABLE a (x)", "CREATE TABLE b AS SELECT x FROM a", "DROP TABLE a"];
    for (taken, expected) in [(1, vec!["a"]), (2, vec!["a", "b"]), (2, vec!["a", "b"]), (3, vec!["b"])] {
        let index = Index::open_with(&dir, &steps[..taken]).unwrap();
        assert_eq!(tables(&index), expected);
        assert_eq!(index.format().unwrap(), taken);
    }
    let error = Index::open_with(&dir, &steps[..1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} has format 3; this mvmctl knows formats up to 1", dir.join(FILE).display())
    );
}

#[test]
fn a_step_that_fails_leaves_the_format_before_it() {
    let (_directory, dir) = scope();
    drop(Index::open_with(&dir, &["CREATE TABLE a (x)"]).unwrap());
    let error = Index::open_with(&dir, &["CREATE TABLE a (x)", "CREATE TABLE b (x); CREATE TABLE a (x)"])
        .unwrap_err();
    assert!(matches!(error, IndexError::Sqlite { act: "create the tables", .. }), "{error}");
    let index = Index::open_with(&dir, &["CREATE TABLE a (x)"]).unwrap();
    assert_eq!(tables(&index), ["a"]);
}

#[test]
fn a_failed_transaction_leaves_nothing() {
    let (_directory, dir) = scope();
    let index = Index::open_with(&dir, &["CREATE TABLE a (x INTEGER PRIMARY KEY)"]).unwrap();
    let error = index
        .write(Durability::Kill, "add", |connection| {
            connection.execute("INSERT INTO a VALUES (1)", [])?;
            connection.execute("INSERT INTO a VALUES (1)", [])
        })
        .unwrap_err();
    assert!(matches!(error, IndexError::Sqlite { act: "add", .. }), "{error}");
    let count: u32 = index
        .read("count", |connection| connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)))
        .unwrap();
    assert_eq!(count, 0);
}

#[test]
fn what_is_not_a_database_is_refused_by_name() {
    let (_directory, dir) = scope();
    std::fs::write(dir.join(FILE), [b'x'; 4096]).unwrap();
    let error = Index::open(&dir).unwrap_err();
    assert!(matches!(error, IndexError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains(&*dir.join(FILE).to_string_lossy()), "{error}");
}

#[test]
fn links_in_place_of_the_database_and_its_companions_are_refused() {
    for name in [FILE, "index.db-wal", "index.db-shm"] {
        let (_directory, dir) = scope();
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.join(name)).unwrap();
        let error = Index::open(&dir).unwrap_err();
        assert!(
            matches!(&error, IndexError::File(FileError::Kind { path, .. }) if *path == dir.join(name)),
            "{error:?}"
        );
        assert_eq!(elsewhere.as_file().metadata().unwrap().len(), 0);
    }
}
