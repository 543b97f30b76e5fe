//! `image verify` and a guest, each against images with a flipped bit.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::sandbox::Sandbox;

use crate::{Case, GCC, GUEST, Outcome, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "verify::names_image_and_offset", needs: &[Need::Mvmctl, UMOCI, GCC], run: names_the_place },
    Case { name: "verify::all_images_and_json", needs: &[Need::Mvmctl, UMOCI, GCC], run: all_images },
    Case { name: "verify::a_guest_refuses_each_flipped_bit", needs: GUEST, run: guest_refuses },
];

const BLOCK: u64 = 4096;

/// Flips one bit of a file.
fn flip(path: &Path, bit: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8)?;
    file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8)
}

/// Returns the number of data blocks, from the superblock of veritysetup, which follows them.
fn data_blocks(image: &Path) -> Result<u64, libtest_mimic::Failed> {
    let bytes = fs::read(image)?;
    let starts = bytes.chunks(BLOCK as usize).map(|block| block.starts_with(b"verity\0\0"));
    let found: Vec<usize> = starts.enumerate().filter(|(_, is)| *is).map(|(number, _)| number).collect();
    ensure_eq!(found.len(), 1);
    Ok(found[0] as u64)
}

/// Returns bits spread evenly over a file, and the first and last one of each of its parts.
fn bits(count: u64, length: u64, data_blocks: u64) -> Vec<u64> {
    let hashes = data_blocks * BLOCK;
    let edges = [0, hashes - 1, hashes, hashes + BLOCK - 1, hashes + BLOCK, length - 1];
    // An odd factor visits each place of a byte.
    let spread = (0..count - edges.len() as u64).map(|number| (number * 2 + 1) * length / (2 * count));
    let mut bits: Vec<u64> = edges.into_iter().chain(spread).map(|at| at * 8 + at % 7).collect();
    bits.sort_unstable();
    bits
}

fn names_the_place() -> Outcome {
    let sandbox = Sandbox::new()?;
    let image = format!("oci:{}:latest", fixtures::single_static()?.display());
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let file = sandbox.image_file()?;
    let root_hash = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let length = fs::metadata(&file)?.len();
    let blocks = data_blocks(&file)?;
    let sound = sandbox.mvmctl(["image", "verify", &image]).run()?.ok()?;
    ensure_eq!(sound.out(), format!("{image}: ok, {length} bytes\n"));
    for bit in bits(20, length, blocks) {
        flip(&file, bit)?;
        let output = sandbox.mvmctl(["image", "verify", &image]).run()?.exits(4)?;
        // In the superblock the byte, elsewhere the block.
        let (at, block) = (bit / 8, bit / 8 / BLOCK);
        let offset = if block == blocks { at } else { block * BLOCK };
        let place = format!("byte {offset}");
        ensure!(output.err().contains(&root_hash), "byte {at}: not named: {}", output.err());
        for words in [output.err(), output.out()] {
            let has = words.split(['(', ')', '\n']).any(|part| part.ends_with(&place));
            ensure!(has, "byte {at}: {place:?} is not in: {words}");
        }
        let verdicts = sandbox.mvmctl(["image", "verify", "--json", &image]).run()?.exits(4)?.out();
        let verdicts: serde_json::Value = serde_json::from_str(&verdicts)?;
        ensure_eq!(verdicts[0]["offset"], offset);
        ensure_eq!((&verdicts[0]["image"], &verdicts[0]["ok"]), (&image.as_str().into(), &false.into()));
        flip(&file, bit)?;
    }
    let log = sandbox.mvmctl(["audit", "tail", "--json", "-n", "1"]).run()?.ok()?.out();
    ensure!(log.contains("\"damage\"") && log.contains(&root_hash), "the last entry is {log}");
    // Something more, and something less.
    let handle = OpenOptions::new().write(true).open(&file)?;
    let last = fs::read(&file)?.split_off(length as usize - 1);
    for (now, offset) in [(length + 1, length), (length - 1, length - 1)] {
        handle.set_len(now)?;
        let output = sandbox.mvmctl(["image", "verify", &image]).run()?.exits(4)?;
        let words = format!("the image has {now} bytes, expected {length}");
        ensure!(output.err().contains(&words), "{words:?} is not in: {}", output.err());
        let verdicts = sandbox.mvmctl(["image", "verify", "--json", &image]).run()?.exits(4)?.out();
        let verdicts: serde_json::Value = serde_json::from_str(&verdicts)?;
        ensure_eq!(verdicts[0]["offset"], offset);
    }
    handle.write_all_at(&last, length - 1)?;
    sandbox.mvmctl(["image", "verify", &image]).run()?.ok()?;
    // Another image's sound bytes under this one's name.
    let other = format!("oci:{}:latest", fixtures::sixty_layers()?.display());
    sandbox.mvmctl(["pull", &other]).run()?.ok()?;
    let files = sandbox.image_files()?;
    let bytes = fs::read(files.iter().find(|found| **found != file).ok_or("the other image is missing")?)?;
    fs::write(&file, bytes)?;
    sandbox.mvmctl(["image", "verify", &image]).run()?.exits(4)?;
    Ok(())
}

fn all_images() -> Outcome {
    let sandbox = Sandbox::new()?;
    let [one, two] = [fixtures::single_static()?, fixtures::sixty_layers()?]
        .map(|layout| format!("oci:{}:latest", layout.display()));
    sandbox.mvmctl(["pull", &one]).run()?.ok()?;
    let first = sandbox.image_file()?;
    sandbox.mvmctl(["pull", &two]).run()?.ok()?;
    let second = sandbox.image_files()?.into_iter().find(|file| *file != first).ok_or("one image only")?;
    let both = sandbox.json(["image", "verify", "--all", "--json"])?;
    let images: Vec<_> = both.as_array().into_iter().flatten().map(|found| &found["image"]).collect();
    ensure!(images.len() == 2 && images.contains(&&one.as_str().into()), "{both:#}");
    ensure!(both.as_array().into_iter().flatten().all(|found| found["ok"] == true), "{both:#}");

    // One is damaged: the other is looked at all the same.
    flip(&first, 12345)?;
    let output = sandbox.mvmctl(["image", "verify", &one, &two]).run()?.exits(4)?;
    let lines: Vec<String> = output.out().lines().map(str::to_owned).collect();
    ensure!(
        lines.len() == 2
            && lines[0].starts_with(&format!("{one}: DAMAGED, "))
            && lines[1].starts_with(&format!("{two}: ok, ")),
        "{lines:?}"
    );
    // Both are.
    flip(&second, 12345)?;
    let output = sandbox.mvmctl(["image", "verify", "--all"]).run()?.exits(4)?;
    ensure!(output.err().contains("2 images are damaged"), "{}", output.err());
    ensure!([&one, &two].into_iter().all(|image| output.err().contains(image)), "{}", output.err());
    sandbox.mvmctl(["image", "verify", "--all", "--discard"]).run()?.exits(4)?;
    // Nothing damaged is left, and all of it comes back.
    ensure_eq!(sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?.out(), "");
    sandbox.mvmctl(["image", "verify", &one]).run()?.exits(4)?;
    for image in [&one, &two] {
        sandbox.mvmctl(["pull", image]).run()?.ok()?;
    }
    ensure_eq!(sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?.out().lines().count(), 2);
    // What doesn't exist is no damage.
    sandbox.mvmctl(["image", "verify", "no/such"]).run()?.exits(3)?;
    sandbox.mvmctl(["image", "verify"]).run()?.exits(2)?;
    Ok(())
}

/// The host doesn't look at the bytes of an image that it boots: the guest has to find out, at boot or when it reads.
fn guest_refuses() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let whole = "dd if=/dev/dm-0 of=/dev/null bs=65536 && echo whole";
    let run = || sandbox.mvmctl(["run", "--rm", &image, "sh", "-c", whole]).run();
    let sound = run()?.ok()?;
    ensure_eq!(sound.out(), "whole\n");
    let file = sandbox.image_file()?;
    let length = fs::metadata(&file)?.len();
    let blocks = data_blocks(&file)?;
    let bits = bits(22, length, blocks);
    // The superblock of veritysetup is for other programs: a guest takes all that it says from the signed plan.
    let bits: Vec<u64> = bits.into_iter().filter(|bit| bit / 8 / BLOCK != blocks).collect();
    ensure_eq!(bits.len(), 20);
    for bit in bits {
        flip(&file, bit)?;
        let output = run()?;
        flip(&file, bit)?;
        let at = bit / 8;
        ensure!(output.code() != 0, "byte {at} of {length}: it ran to its end");
        ensure!(!output.out().contains("whole"), "byte {at} of {length}: everything was read");
        // A program of which a page can't be read is killed by a signal, and says nothing.
        let killed = output.code() > 128;
        ensure!(
            killed || !output.err().is_empty(),
            "byte {at} of {length}: code {}, no words",
            output.code()
        );
    }
    ensure_eq!(run()?.ok()?.out(), "whole\n");
    Ok(())
}
