//! Whiteouts remove what lower layers put, whatever the order in their layer.

use super::*;

const BASE: fn() -> Vec<Change> = || {
    vec![
        dir("d", 0o700),
        file("d/a", 1),
        dir("d/e", 0o711),
        file("d/e/b", 2),
        file("f", 3),
        symlink("l", "d"),
    ]
};

#[test]
fn remove_what_lower_layers_put() {
    let cases: [(&[Change], &[&str]); 7] = [
        (
            &[whiteout("f"), whiteout("l"), whiteout("missing"), whiteout("no/parent"), whiteout("f/below")],
            &["0 / d755 3", "1 /d d700 3", "2 /d/a f0:1 1", "3 /d/e d711 2", "4 /d/e/b f0:2 1"],
        ),
        (&[whiteout("d")], &["0 / d755 2", "1 /f f0:3 1", "2 /l ->d 1"]),
        (&[opaque("d")], &["0 / d755 3", "1 /d d700 2", "2 /f f0:3 1", "3 /l ->d 1"]),
        // The parent of a whiteout may be a symbolic link.
        (
            &[whiteout("l/a"), opaque("l/e")],
            &["0 / d755 3", "1 /d d700 3", "2 /d/e d711 2", "3 /f f0:3 1", "4 /l ->d 1"],
        ),
        (&[opaque("l")], &["0 / d755 3", "1 /d d700 2", "2 /f f0:3 1", "3 /l ->d 1"]),
        (&[opaque("")], &["0 / d755 2"]),
        (
            &[opaque("f"), opaque("missing"), opaque("no/parent")],
            &[
                "0 / d755 3",
                "1 /d d700 3",
                "2 /d/a f0:1 1",
                "3 /d/e d711 2",
                "4 /d/e/b f0:2 1",
                "5 /f f0:3 1",
                "6 /l ->d 1",
            ],
        ),
    ];
    for (layer, want) in cases {
        assert_merged(&[&BASE(), layer], want);
    }
}

#[test]
fn spare_what_their_layer_puts_in_any_order() {
    // Each set of changes in every order gives one tree.
    let cases: [(&[Change], &[&str]); 8] = [
        (
            &[whiteout("f"), file("f", 9)],
            &[
                "0 / d755 3",
                "1 /d d700 3",
                "2 /d/a f0:1 1",
                "3 /d/e d711 2",
                "4 /d/e/b f0:2 1",
                "5 /f f1:9 1",
                "6 /l ->d 1",
            ],
        ),
        (
            &[whiteout("d"), file("d/n", 9)],
            &["0 / d755 3", "1 /d d755 2", "2 /d/n f1:9 1", "3 /f f0:3 1", "4 /l ->d 1"],
        ),
        (
            &[whiteout("d"), dir("d", 0o750), file("d/e/n", 9)],
            &["0 / d755 3", "1 /d d750 3", "2 /d/e d755 2", "3 /d/e/n f1:9 1", "4 /f f0:3 1", "5 /l ->d 1"],
        ),
        (
            &[opaque("d"), file("d/e/n", 9)],
            &["0 / d755 3", "1 /d d700 3", "2 /d/e d755 2", "3 /d/e/n f1:9 1", "4 /f f0:3 1", "5 /l ->d 1"],
        ),
        (
            &[opaque("d"), dir("d/e", 0o750), whiteout("d/a"), file("d/a", 9)],
            &["0 / d755 3", "1 /d d700 3", "2 /d/a f1:9 1", "3 /d/e d750 2", "4 /f f0:3 1", "5 /l ->d 1"],
        ),
        (
            &[opaque("d"), opaque("d/e"), opaque(""), file("d/e/n", 9)],
            &["0 / d755 3", "1 /d d755 3", "2 /d/e d755 2", "3 /d/e/n f1:9 1"],
        ),
        (&[whiteout("d"), opaque("d"), opaque("d/e")], &["0 / d755 2", "1 /f f0:3 1", "2 /l ->d 1"]),
        (
            &[whiteout("f"), file("f/n", 9), whiteout("l"), whiteout("d")],
            &["0 / d755 3", "1 /f d755 2", "2 /f/n f1:9 1"],
        ),
    ];
    for (layer, want) in cases {
        for order in permutations(layer) {
            assert_merged(&[&BASE(), &order], want);
        }
    }
}

fn permutations(changes: &[Change]) -> Vec<Vec<Change>> {
    if changes.is_empty() {
        return vec![Vec::new()];
    }
    let with = |n: usize| {
        let mut rest = changes.to_vec();
        let first = rest.remove(n);
        permutations(&rest).into_iter().map(move |rest| [std::slice::from_ref(&first), &rest[..]].concat())
    };
    (0..changes.len()).flat_map(with).collect()
}

#[test]
fn act_in_the_layer_that_follows() {
    // What a layer spared is a lower layer's for the next one.
    let layers: [&[Change]; 4] = [
        &BASE(),
        &[opaque("d"), file("d/n", 9), whiteout("f"), whiteout("l")],
        &[opaque("d"), file("d/m", 8)],
        &[whiteout("d/m")],
    ];
    assert_merged(&layers[..3], &["0 / d755 3", "1 /d d700 2", "2 /d/m f2:8 1"]);
    assert_merged(&layers, &["0 / d755 3", "1 /d d700 2"]);
}

#[test]
fn leave_other_names_of_a_file() {
    let layers: [&[Change]; 2] =
        [&[file("a", 1), link("d/b", "a"), link("d/c", "a")], &[whiteout("a"), opaque("d"), file("d/n", 2)]];
    assert_merged(&layers, &["0 / d755 3", "1 /d d755 2", "2 /d/n f1:2 1"]);
    let layers: [&[Change]; 2] = [layers[0], &[link("d/kept", "a"), whiteout("a"), opaque("d")]];
    assert_merged(&layers, &["0 / d755 3", "1 /d d755 2", "2 /d/kept f0:1 1"]);
}
