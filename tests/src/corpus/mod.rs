//! Images made to harm and images that are merely odd, each with what must come of it.
//!
//! A case writes an OCI layout byte by byte. The program under test pulls it into a fresh store; it must refuse it for
//! the reason that the case names, or make exactly the tree that the case has, within bounds of time and memory, and
//! change nothing outside of its store. Where umoci and bsdtar are installed they are asked for their opinion too.

mod case;
mod compress;
mod expected;
pub mod image;
mod kind;
mod listing;
pub mod measure;
pub mod nars;
mod peers;
mod run;
pub mod tar;

mod bombs;
mod compression;
mod configs;
mod documents;
mod indexes;
mod links;
mod modes;
mod names;
mod owners;
mod pax;
mod policy;
mod replacement;
mod sparse;
mod structure;
mod times;
mod whiteouts;
mod xattrs;

pub use case::{Case, Draft, Outcome, Peer, hostile, oddity};
pub use compress::{gzip, zstd};
pub use expected::Tree;
pub use image::Image;
pub use kind::Kind;
pub use run::{CANARY, CaseError, report, run};

/// Returns all cases.
pub fn cases() -> Vec<Case> {
    let themes = [
        ("configs", configs::cases()),
        ("documents", documents::cases()),
        ("indexes", indexes::cases()),
        ("structure", structure::cases()),
        ("links", links::cases()),
        ("replacement", replacement::cases()),
        ("whiteouts", whiteouts::cases()),
        ("names", names::cases()),
        ("modes", modes::cases()),
        ("owners", owners::cases()),
        ("xattrs", xattrs::cases()),
        ("times", times::cases()),
        ("pax", pax::cases()),
        ("sparse", sparse::cases()),
        ("compression", compression::cases()),
        ("bombs", bombs::cases()),
        ("policy", policy::cases()),
    ];
    let with_theme =
        |(theme, cases): (&'static str, Vec<Case>)| cases.into_iter().map(move |case| Case { theme, ..case });
    themes.into_iter().flat_map(with_theme).collect()
}

#[cfg(test)]
mod tests;
