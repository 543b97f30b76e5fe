use super::*;
use anyhow::Context as _;

#[test]
fn each_kind_has_its_documented_code() {
    use ErrorKind::*;
    let table = [
        (Failure, 1, 125),
        (Usage, 2, 125),
        (NotFound, 3, 125),
        (Verification, 4, 125),
        (Refused, 5, 125),
        (Network, 6, 125),
        (Conflict, 7, 125),
        (Missing, 8, 125),
        (CommandNotExecutable, 126, 126),
        (CommandNotFound, 127, 127),
        (Interrupted, 130, 130),
    ];
    for (kind, code, of_a_command) in table {
        assert_eq!((exit_code(kind, false), exit_code(kind, true)), (code, of_a_command), "{kind:?}");
    }
}

#[test]
fn a_chain_is_one_line_that_says_each_thing_once() {
    let cause = || io::Error::other("no space\nleft\u{1b}[0m");
    let error = Err::<(), _>(cause()).context("write /x").context("pull debian").unwrap_err();
    assert_eq!(chain(&error), "pull debian: write /x: no space\u{fffd}left\u{fffd}[0m");
    let error = anyhow::anyhow!("no space").context("write /x: no space");
    assert_eq!(chain(&error), "write /x: no space");
}

#[test]
fn only_our_own_closed_output_is_silent() {
    let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
    assert!(closed_pipe(&closed().into()));
    assert!(!closed_pipe(&io::Error::from(io::ErrorKind::NotFound).into()));
    assert!(!closed_pipe(&anyhow::anyhow!("broken pipe")));
}
