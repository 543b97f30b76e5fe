use crate::child::Actor;
use crate::fixture::*;
use mvm_store::{Collected, CollectedKind, GcOptions, GcReport, ImageClaim, Reason, Scope, Tally, Usage};

const ALL: GcOptions = GcOptions { dry_run: false, segment_budget: None };

fn gc(scope: &Scope) -> GcReport {
    scope.gc(&ALL, &|_| false).unwrap()
}

fn names_of(report: &GcReport) -> Vec<(CollectedKind, String)> {
    let mut names: Vec<_> = report.removed.iter().map(|item| (item.kind, entry(item))).collect();
    names.sort();
    names
}

fn reasons_of(report: &GcReport) -> Vec<(CollectedKind, String, Reason)> {
    let mut names: Vec<_> = report.removed.iter().map(|item| (item.kind, entry(item), item.reason)).collect();
    names.sort();
    names
}

fn segment_name(text: &str) -> String {
    format!("{}-g1", diff_id(text).hex())
}

#[test]
fn an_image_that_the_caller_keeps_stays_with_its_manifests() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let root = pull(scope, "a", &["base", "old"]).manifest.root_hash;
    drop(pull(scope, "a", &["base", "new"]));
    assert_eq!(scope.gc(&ALL, &|asked| *asked == root).unwrap(), GcReport::default());
    assert_eq!(scope.list_images().unwrap().len(), 2);
    assert_eq!(gc(scope).removed.len(), 4);
}

#[test]
fn documents_of_an_unfinished_pull_stay_until_its_scope_is_closed() {
    let fixture = fixture();
    let puller = fixture.again();
    let document = puller.put_document(b"first half").unwrap();
    let busy = GcReport { busy: 1, ..GcReport::default() };
    assert_eq!(gc(&fixture.scope), busy);
    drop(pull(&puller, "a", &["1"]));
    assert_eq!(gc(&fixture.scope), busy);
    drop(puller);
    assert_eq!(names_of(&gc(&fixture.scope)), [(CollectedKind::Document, document.hex())]);
    assert_eq!(gc(&fixture.scope), GcReport::default());
    assert_eq!(fixture.names("documents").len(), 3);
}

#[test]
fn a_dry_run_follows_what_the_removal_would_free() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let old = pull(scope, "a", &["base", "old"]).manifest;
    drop(pull(scope, "a", &["base", "new"]));
    let mut expected = vec![
        (CollectedKind::Image, format!("{}.img", old.root_hash.hex())),
        (CollectedKind::Segment, segment_name("old")),
        (CollectedKind::Document, old.manifest.hex()),
        (CollectedKind::Document, old.config.hex()),
    ];
    expected.sort();
    let dry = scope.gc(&GcOptions { dry_run: true, ..ALL }, &|_| false).unwrap();
    assert_eq!(names_of(&dry), expected);
    assert_eq!(dry.freed, dry.removed.iter().map(|item| item.bytes).sum::<u64>());
    assert!(dry.removed.iter().all(|item| item.bytes > 0), "{dry:?}");
    assert!(scope.image_by_root(&old.root_hash).unwrap().is_some());
    assert_eq!(gc(scope), dry);
    assert!(scope.image_by_root(&old.root_hash).unwrap().is_none());
    assert_eq!(gc(scope), GcReport::default());
    assert_eq!(fixture.names("staging"), [""; 0]);
}

#[test]
fn what_is_held_or_made_is_left_alone() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let (held, _) = segment(scope, "held");
    let making = slot(scope, "making");
    making.files().data.set_len(4096).unwrap();
    let (image, _) = image(scope, &["held"]);
    let document = scope.put_document(b"first half of a pull").unwrap();
    let again = fixture.again();
    for _ in 0..2 {
        let report = gc(&again);
        assert_eq!((report.removed.len(), report.busy), (0, 3), "{report:?}");
    }
    assert_eq!(held.open().unwrap().index.metadata().unwrap().len(), 5);
    assert!(image.path().exists());
    making.files().data.set_len(0).unwrap();
    drop(fill(making, "making").unwrap());
    drop((held, image));
    let report = gc(&again);
    assert_eq!((report.removed.len(), report.busy), (3, 1), "{report:?}");
    assert_eq!(scope.document(&document).unwrap().unwrap(), b"first half of a pull");
}

#[test]
fn files_without_rows_and_rows_without_files_are_removed() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let pulled = pull(scope, "a", &["1", "2"]);
    let (image_path, root) = (pulled.image.path().to_owned(), pulled.manifest.root_hash);
    let segment_path = pulled.segments[0].path().to_owned();
    drop(pulled);
    // Rows without files.
    std::fs::remove_file(&image_path).unwrap();
    std::fs::remove_dir_all(&segment_path).unwrap();
    // Files without rows.
    let orphan = mvm_ref::Digest::of(b"orphan").hex();
    std::fs::write(fixture.path(&format!("images/{orphan}.img")), "x").unwrap();
    std::fs::create_dir(fixture.path(&format!("segments/{orphan}-g7"))).unwrap();
    std::fs::write(fixture.path(&format!("segments/{orphan}-g7/data")), "x").unwrap();
    // Nothing that the store could have made.
    std::fs::write(fixture.path("images/notes.txt"), "x").unwrap();
    std::fs::write(fixture.path("staging/notes.txt"), "x").unwrap();
    assert!(scope.image_by_root(&root).unwrap().is_none());
    assert!(scope.image(&chain(&["1", "2"]), GENERATION).unwrap().is_none());
    assert!(scope.segment(&diff_id("1"), GENERATION).unwrap().is_none());

    let report = gc(scope);
    let mut expected = vec![
        (CollectedKind::Image, format!("{orphan}.img"), Reason::Unrecorded),
        (CollectedKind::Image, format!("{}.img", root.hex()), Reason::Lost),
        (CollectedKind::Segment, format!("{orphan}-g7"), Reason::Unrecorded),
        (CollectedKind::Segment, segment_name("1"), Reason::Lost),
    ];
    expected.sort();
    assert_eq!(reasons_of(&report), expected);
    assert_eq!(fixture.names("images"), ["notes.txt"]);
    assert_eq!(fixture.names("staging"), ["notes.txt"]);
    let database = rusqlite::Connection::open(fixture.path("index.db")).unwrap();
    for (table, rows) in [("images", 0), ("chains", 0), ("segments", 1), ("manifests", 1), ("resolutions", 1)]
    {
        let count: u32 =
            database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(count, rows, "{table}");
    }
    // The reference is whole again after the next pull.
    let pulled = pull(scope, "a", &["1", "2"]);
    assert_eq!(pulled.built, set(&["1", "image"]));
    assert!(pulled.image.path().exists());
}

#[test]
fn a_file_of_another_length_is_made_anew() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let pulled = pull(scope, "a", &["1"]);
    std::fs::write(pulled.image.path(), "longer").unwrap();
    std::fs::write(pulled.segments[0].path().join("tails"), "longer").unwrap();
    drop(pulled);
    assert!(scope.segment(&diff_id("1"), GENERATION).unwrap().is_none());
    let pulled = pull(scope, "a", &["1"]);
    assert_eq!(pulled.built, set(&["1", "image"]));
    assert_eq!(std::fs::read(pulled.image.path()).unwrap(), b"1");
}

#[test]
fn collection_removes_what_is_not_as_it_was_stored_and_says_so() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let pulled = pull(scope, "a", &["1", "2"]);
    let root = pulled.manifest.root_hash;
    let image = std::fs::File::options().write(true).open(pulled.image.path()).unwrap();
    let tails = pulled.segments[0].path().join("tails");
    drop(pulled);
    image.set_len(1).unwrap();
    std::fs::remove_file(tails).unwrap();
    let expected = [
        (CollectedKind::Image, format!("{}.img", root.hex()), Reason::Torn),
        (CollectedKind::Segment, segment_name("1"), Reason::Torn),
    ];
    let dry = scope.gc(&GcOptions { dry_run: true, ..ALL }, &|_| false).unwrap();
    assert_eq!(reasons_of(&dry), expected);
    assert_eq!(gc(scope), dry);
    assert_eq!(gc(scope), GcReport::default());
    // The name stays, and is whole again after the next pull.
    assert_eq!(scope.list_images().unwrap()[0].size, None);
    assert_eq!(pull(scope, "a", &["1", "2"]).built, set(&["1", "image"]));
}

/// Everything below a directory, with what it holds.
fn contents(directory: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(contents(&path));
        } else if path.extension().is_none_or(|extension| extension != "db-shm") {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn a_dry_run_changes_nothing_at_all() {
    let fixture = fixture();
    drop(pull(&fixture.scope, "a", &["base", "old"]));
    drop(pull(&fixture.scope, "a", &["base", "new"]));
    let hex = diff_id("x").hex();
    for leftover in [format!("document-{hex}.1.0"), format!("image-{hex}-g1.img"), format!("root-{hex}.lock")]
    {
        std::fs::write(fixture.path(&format!("staging/{leftover}")), "half").unwrap();
    }
    std::fs::write(fixture.path(&format!("images/{hex}.img")), "unrecorded").unwrap();
    let before = contents(fixture.directory.path());
    let look = || mvm_store::Store::open_to_look(fixture.directory.path()).unwrap().unwrap();
    let scope = look().scope(&mvm_ref::ScopeName::default()).unwrap();
    let dry = scope.gc(&GcOptions { dry_run: true, segment_budget: Some(0) }, &|_| false).unwrap();
    drop(scope);
    assert_eq!(contents(fixture.directory.path()), before);
    let count = |kind| dry.removed.iter().filter(|item| item.kind == kind).count();
    let counts =
        [CollectedKind::Leftover, CollectedKind::Image, CollectedKind::Segment, CollectedKind::Document];
    assert_eq!(counts.map(count), [2, 2, 3, 2], "{dry:?}");
    let done =
        fixture.again().gc(&GcOptions { dry_run: false, segment_budget: Some(0) }, &|_| false).unwrap();
    assert_eq!(reasons_of(&done), reasons_of(&dry));
    assert_eq!(done.freed, dry.freed);
}

#[test]
fn a_dry_run_sees_who_is_at_work() {
    let fixture = fixture();
    let making = slot(&fixture.scope, "making");
    let report = fixture.again().gc(&GcOptions { dry_run: true, ..ALL }, &|_| false).unwrap();
    assert_eq!(report, GcReport::default());
    drop(making);
}

#[test]
fn a_file_with_two_names_is_counted_once() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let (base, _) = segment(scope, "base");
    let ImageClaim::Build(mut slot) = scope.claim_image(&chain(&["base"]), GENERATION, &never).unwrap()
    else {
        panic!("an image from nowhere")
    };
    assert!(slot.adopt(&base).unwrap());
    let size = slot.file().metadata().unwrap().len();
    let record = mvm_store::ImageRecord { size, ..image_record(&["base"]).0 };
    drop(slot.commit(record).unwrap());
    drop(base);
    let Usage { images, segments, total, .. } = scope.usage().unwrap();
    assert_eq!(images, Tally { count: 1, bytes: images.bytes, shared: images.bytes });
    assert_eq!((segments.shared, total), (images.bytes, segments.bytes));
    assert!(segments.bytes > images.bytes && images.bytes >= 8192, "{segments:?}");
    // Nothing refers to either, and the blocks go with the last name.
    let dry = scope.gc(&GcOptions { dry_run: true, ..ALL }, &|_| false).unwrap();
    assert_eq!(dry.removed.iter().map(|item| item.bytes).collect::<Vec<_>>(), [0, segments.bytes]);
    assert_eq!(gc(scope), dry);
    assert_eq!(dry.freed, total);
}

#[test]
fn a_segment_whose_data_an_image_has_costs_the_budget_only_the_rest() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let pulled = pull(scope, "a", &["1"]);
    std::fs::hard_link(pulled.segments[0].path().join("data"), fixture.path("staging/further-name")).unwrap();
    drop(pulled);
    let rest = scope.usage().unwrap().segments;
    let budget = rest.bytes - rest.shared;
    assert_eq!(scope.trim_segments(budget).unwrap(), GcReport::default());
    let report = scope.trim_segments(budget - 1).unwrap();
    assert_eq!(reasons_of(&report), [(CollectedKind::Segment, segment_name("1"), Reason::OverBudget)]);
    assert_eq!(report.freed, budget);
}

#[test]
fn segments_of_an_earlier_boot_are_trusted_only_if_sealed() {
    let fixture = fixture();
    let scope = &fixture.scope;
    drop(pull(scope, "a", &["1", "2"]));
    let database = rusqlite::Connection::open(fixture.path("index.db")).unwrap();
    assert_eq!(scope.seal_segments().unwrap(), 2);
    assert_eq!(scope.seal_segments().unwrap(), 0);
    drop(pull(scope, "b", &["3", "4"]));
    assert_eq!(database.execute("UPDATE segments SET boot_id = 'before'", []).unwrap(), 4);
    assert_eq!(scope.seal_segments().unwrap(), 0);
    let trusted = |text| scope.segment(&diff_id(text), GENERATION).unwrap().is_some();
    assert_eq!(["1", "2", "3", "4"].map(trusted), [true, true, false, false]);
    // One is fetched again, the other collected.
    assert!(segment(scope, "3").1);
    assert_eq!(names_of(&gc(scope)), [(CollectedKind::Segment, segment_name("4"))]);
    assert_eq!(["1", "2", "3", "4"].map(trusted), [true, true, true, false]);
}

#[test]
fn a_budget_takes_the_segments_unused_longest() {
    let fixture = fixture();
    let scope = &fixture.scope;
    drop(pull(scope, "a", &["1", "2", "3"]));
    drop(segment(scope, "unreached"));
    let database = rusqlite::Connection::open(fixture.path("index.db")).unwrap();
    for (last_used, text) in [(10, "2"), (20, "3"), (30, "1")] {
        database
            .execute(
                "UPDATE segments SET last_used = ?1 WHERE diff_id = ?2",
                rusqlite::params![last_used, diff_id(text).as_bytes()],
            )
            .unwrap();
    }
    let usage = scope.usage().unwrap();
    assert_eq!(
        (usage.segments.count, usage.images.count, usage.documents.count, usage.staging.count),
        (4, 1, 3, 0)
    );
    let each = usage.segments.bytes / 4;
    let collect = |budget| {
        let options = GcOptions { segment_budget: Some(budget), ..ALL };
        names_of(&scope.gc(&options, &|_| false).unwrap())
    };
    let segment = |text| (CollectedKind::Segment, segment_name(text));
    assert_eq!(collect(each * 3), [segment("unreached")]);
    assert_eq!(collect(each * 3 - 1), [segment("2")]);
    // Looking it up counts as use.
    assert!(scope.segment(&diff_id("3"), GENERATION).unwrap().is_some());
    assert_eq!(collect(each), [segment("1")]);
    assert_eq!(collect(0), [segment("3")]);
    assert!(scope.image(&chain(&["1", "2", "3"]), GENERATION).unwrap().is_some());
}

#[test]
fn collection_and_pulls_do_not_hurt_each_other() {
    let fixture = fixture();
    let mut actors = vec![];
    for round in 0..3 {
        actors.push(Actor::start(&format!("pull image-{round}"), fixture.directory.path()));
        actors.push(Actor::start("collect", fixture.directory.path()));
    }
    actors.into_iter().for_each(|mut actor| {
        actor.all_it_says();
        actor.ends_well();
    });
    let listing = fixture.scope.list_images().unwrap();
    assert_eq!(listing.len(), 1);
    assert_eq!(listing[0].references, ["image-0", "image-1", "image-2"]);
    assert_eq!(listing[0].size, Some(3));
    for digest in [listing[0].manifest, listing[0].config] {
        assert!(fixture.scope.document(&digest).unwrap().is_some());
    }
}

#[test]
fn totals_are_of_the_disk() {
    let fixture = fixture();
    assert_eq!(fixture.scope.usage().unwrap(), mvm_store::Usage::default());
    drop(pull(&fixture.scope, "a", &["1"]));
    let usage = fixture.scope.usage().unwrap();
    assert!(usage.segments.bytes >= 8192, "{usage:?}");
    let total = usage.images.bytes + usage.segments.bytes + usage.documents.bytes;
    fixture.scope.remove_reference("a", &nobody).unwrap();
    let removed: u64 = gc(&fixture.scope).removed.iter().map(|item: &Collected| item.bytes).sum();
    assert_eq!(removed, 0);
    assert!(total > 0);
    assert_eq!(fixture.scope.usage().unwrap(), mvm_store::Usage::default());
}
