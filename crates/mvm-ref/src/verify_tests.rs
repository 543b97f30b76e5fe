use super::*;

fn run(expected: Expected, stored: &[u8], tar: &[u8]) -> Result<VerifiedLayer, VerifyError> {
    let (mut compressed, mut side) = layer(expected);
    stored.chunks(3).for_each(|part| compressed.update(part));
    tar.chunks(5).for_each(|part| side.update(part));
    compressed.finish(side)
}

#[test]
fn all_three_values_are_compared() {
    let (digest, diff_id) = (Digest::of(b"stored"), Digest::of(b"the tar"));
    let good = Expected { digest, size: 6, diff_id };
    let layer = run(good, b"stored", b"the tar").unwrap();
    assert_eq!((layer.digest(), layer.diff_id(), layer.size(), layer.tar_size()), (digest, diff_id, 6, 7));

    let other = Digest::of(b"other!");
    let cases = [
        (&b"store"[..], &b"the tar"[..], VerifyError::Size { digest, expected: 6, got: 5 }),
        (b"stored!", b"the tar", VerifyError::Size { digest, expected: 6, got: 7 }),
        (b"other!", b"the tar", VerifyError::Digest { expected: digest, got: other }),
        (b"stored", b"other!", VerifyError::DiffId { digest, expected: diff_id, got: other }),
        (b"", b"", VerifyError::Size { digest, expected: 6, got: 0 }),
    ];
    for (stored, tar, error) in cases {
        assert_eq!(run(good, stored, tar), Err(error));
    }
}
