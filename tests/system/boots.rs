//! Many boots in a row, each with the right answer. `MVM_TEST_BOOTS` sets how many; `make bench` runs 200.

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::sandbox::Sandbox;

use crate::{Case, GCC, Outcome, UMOCI, ensure_eq};

pub const CASES: &[Case] =
    &[Case { name: "boots::in_a_row", needs: &[Need::Mvmctl, Need::Guest, UMOCI, GCC], run: in_a_row }];

fn in_a_row() -> Outcome {
    let count: u32 = std::env::var("MVM_TEST_BOOTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::single_static()?.display());
    for number in 0..count {
        let text = number.to_string();
        let output = sandbox.mvmctl(["run", "--rm", &image, "args", &text]).run()?.ok()?;
        ensure_eq!(output.out(), format!("[{text}]\n"));
    }
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}
