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

/// Databases as earlier formats left them, oldest first, each with a row in every table.
const EARLIER: [&str; 2] = [include_str!("v1.fixture.sql"), include_str!("v2.fixture.sql")];

/// Every row of a database, as text, by table.
fn rows(index: &Index) -> Vec<(String, Vec<String>)> {
    let read = |connection: &Connection, table: &str| -> rusqlite::Result<Vec<String>> {
        let mut query = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let columns: Vec<String> = query.column_names().iter().map(ToString::to_string).collect();
        let row = |row: &Row<'_>| {
            let cell = |(number, name): (usize, &String)| Ok(format!("{name}={:?}", row.get_ref(number)?));
            Ok(columns.iter().enumerate().map(cell).collect::<rusqlite::Result<Vec<_>>>()?.join(" "))
        };
        query.query_map([], row)?.collect()
    };
    tables(index)
        .into_iter()
        .map(|table| (table.clone(), index.read("read", |connection| read(connection, &table)).unwrap()))
        .collect()
}

/// How every table and index was made, but for spaces.
fn schema(index: &Index) -> Vec<Option<String>> {
    index
        .read("list", |connection| {
            let mut query = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name")?;
            query.query_map([], |row| row.get(0))?.collect()
        })
        .unwrap()
}

#[test]
fn every_earlier_format_becomes_this_one_with_all_its_rows() {
    assert_eq!(EARLIER.len(), MIGRATIONS.len() - 1, "a format without a fixture");
    let (_directory, dir) = scope();
    let fresh = schema(&Index::open(&dir).unwrap());
    for (version, fixture) in EARLIER.iter().enumerate() {
        let (_directory, dir) = scope();
        let database = Connection::open(dir.join(FILE)).unwrap();
        database.execute_batch(fixture).unwrap();
        let before = Index { connection: Mutex::new(database), path: dir.join(FILE) };
        assert_eq!(before.format().unwrap(), version + 1);
        let expected = rows(&before);
        assert!(expected.iter().all(|(_, rows)| rows.len() == 1), "{expected:?}");
        drop(before);
        // Twice: the second time there is nothing to do.
        for _ in 0..2 {
            let index = Index::open(&dir).unwrap();
            assert_eq!(index.format().unwrap(), MIGRATIONS.len());
            assert_eq!(schema(&index), fresh, "format {}", version + 1);
            let after = rows(&index);
            for (table, rows) in &expected {
                let (_, now) = after.iter().find(|(name, _)| name == table).unwrap();
                let kept = |(row, now): (&String, &String)| now.starts_with(row.as_str());
                assert!(rows.len() == now.len() && rows.iter().zip(now).all(kept), "{table}: {now:?}");
            }
        }
    }
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let (_directory, dir) = scope();
    let supported = MIGRATIONS.len();
    drop(Index::open(&dir).unwrap());
    let database = Connection::open(dir.join(FILE)).unwrap();
    database.pragma_update(None, "user_version", supported + 1).unwrap();
    drop(database);
    let before = std::fs::read(dir.join(FILE)).unwrap();
    let words = format!(
        "{} has format {}; this mvmctl knows formats up to {supported}",
        dir.join(FILE).display(),
        supported + 1
    );
    for error in [Index::open(&dir).unwrap_err(), Index::open_frozen(&dir).unwrap_err()] {
        assert_eq!(error.to_string(), words);
    }
    assert_eq!(std::fs::read(dir.join(FILE)).unwrap(), before);
}

#[test]
fn a_frozen_index_is_read_with_its_log_or_without_one() {
    let (_directory, dir) = scope();
    let fixture = Connection::open(dir.join(FILE)).unwrap();
    fixture.execute_batch(include_str!("v1.fixture.sql")).unwrap();
    drop(fixture);
    let error = Index::open_frozen(&dir).unwrap_err();
    assert!(matches!(error, IndexError::Older { found: 1, .. }), "{error:?}");
    let expected = rows(&Index::open(&dir).unwrap());
    assert!(dir.file_len(LOG).unwrap().unwrap() > 0);
    let frozen = Index::open_frozen(&dir).unwrap();
    assert_eq!(rows(&frozen), expected);
    let error =
        frozen.write(Durability::Kill, "change", |connection| connection.execute("DELETE FROM leases", []));
    assert!(matches!(error, Err(IndexError::ReadOnly { act: "change", .. })), "{error:?}");
    drop(frozen);
    std::fs::remove_file(dir.join(LOG_INDEX)).unwrap();
    let error = Index::open_frozen(&dir).unwrap_err();
    assert!(matches!(error, IndexError::Log { .. }), "{error:?}");
    // What another program leaves behind: everything in the database.
    let other = Connection::open(dir.join(FILE)).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(other);
    assert_eq!(dir.file_len(LOG).unwrap(), None);
    assert_eq!(rows(&Index::open_frozen(&dir).unwrap()), expected);
    assert_eq!(dir.names().unwrap(), [FILE]);
}

#[test]
fn names_for_sqlite_are_escaped() {
    for (path, expected) in
        [("/a/b-c_d.e", "/a/b-c_d.e"), ("/a b?c=1#d%20", "/a%20b%3Fc%3D1%23d%2520"), ("/\u{e9}", "/%C3%A9")]
    {
        assert_eq!(uri_path(Path::new(path)), expected);
    }
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
    for name in [FILE, LOG, LOG_INDEX] {
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
