//! Layouts and archives that other tools wrote: skopeo converts, umoci makes.

use crate::{FetchConfig, FetchError, Fetcher};
use mvm_ref::{LayerCompression, MediaType, Platform};
use std::path::Path;
use std::process::Command;

#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

type Layers = Vec<(LayerCompression, Vec<u8>)>;

/// Runs a tool in `directory`; says so and returns `None` if it isn't installed.
fn run(directory: &Path, words: &str) -> Option<()> {
    let mut words = words.split(' ');
    let program = words.next().unwrap();
    match Command::new(program).args(words.clone()).current_dir(directory).output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {:?}: {errors}", words.collect::<Vec<_>>());
            Some(())
        }
        Err(error) => {
            println!("skipped: {program} can't be run ({error}); apt-get install {program}");
            None
        }
    }
}

/// Returns the manifest's type and, for each layer, how it is stored and its tar.
fn pull(source: &str) -> Result<(MediaType, Layers), PullError> {
    let fetcher = Fetcher::new(FetchConfig::default());
    let origin = fetcher.open(&source.parse().unwrap())?;
    let resolved = origin.resolve(&Platform::new("linux", "amd64", None))?;
    let layers = resolved.layers().iter().enumerate().map(|(index, (descriptor, expected))| {
        let read = |reader: &mut dyn std::io::BufRead| {
            let mut tar = Vec::new();
            reader.read_to_end(&mut tar)?;
            Ok::<_, PullError>(tar)
        };
        let (tar, layer) = origin.read_layer(&resolved, index, &|_| (), read)?;
        assert_eq!((layer.diff_id(), layer.tar_size()), (expected.diff_id, tar.len() as u64));
        Ok((descriptor.compression(), tar))
    });
    Ok((resolved.manifest().media_type().clone(), layers.collect::<Result<_, PullError>>()?))
}

/// Makes an image of two layers in `directory/oci`.
fn make(directory: &Path) -> Option<()> {
    run(directory, "umoci init --layout oci")?;
    run(directory, "umoci new --image oci:first")?;
    run(directory, "umoci config --image oci:first --os linux --architecture amd64")?;
    for (number, length) in [(1, 10), (2, 900_000)] {
        let name = format!("file{number}");
        let text: String = (0..length).map(|i: u64| char::from(b'a' + (i * i % 23) as u8)).collect();
        std::fs::write(directory.join(&name), text).unwrap();
        run(directory, &format!("umoci insert --rootless --image oci:first {name} /{name}"))?;
    }
    Some(())
}

#[test]
fn images_of_other_tools_are_read_alike_in_every_format() {
    use LayerCompression::{Gzip, Zstd};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    if make(path).is_none() {
        return;
    }
    let place = path.display();
    let (kind, layers) = pull(&format!("oci:{place}/oci:first")).unwrap();
    assert_eq!(kind, MediaType::OciManifest);
    let tars: Vec<_> = layers.iter().map(|(_, tar)| tar.clone()).collect();
    assert_eq!(layers.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Gzip, Gzip]);

    // What is compressed already stays as it is, so that zstd needs a detour.
    let cases = [
        (
            &[
                "--dest-decompress oci:oci:first dir:plain",
                "--dest-compress-format zstd dir:plain oci:other:z",
            ][..],
            "oci:{}/other:z",
            Zstd,
        ),
        (&["oci:oci:first oci-archive:plain.tar:a"], "oci-archive:{}/plain.tar:a", Gzip),
        (&["oci:oci:first oci-archive:plain2.tar"], "oci-archive:{}/plain2.tar", Gzip),
    ];
    for (copies, source, compression) in cases {
        if copies.iter().any(|copy| run(path, &format!("skopeo --insecure-policy copy {copy}")).is_none()) {
            return;
        }
        let expected = tars.iter().map(|tar| (compression, tar.clone())).collect();
        let got = pull(&source.replace("{}", &place.to_string())).unwrap();
        assert!(got == (MediaType::OciManifest, expected), "{source}");
    }
}
