//! Progress of a pull: bars on a terminal, plain lines elsewhere.

use crate::printer::{Printer, bytes};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mvm_engine::{Progress, Sent, Step};
use mvm_ref::Digest;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Shows steps as they come.
pub struct Display {
    printer: Printer,
    bars: Option<Mutex<Bars>>,
}

struct Bars {
    all: MultiProgress,
    layers: HashMap<Digest, ProgressBar>,
    assembling: Option<ProgressBar>,
}

impl Display {
    /// Chooses bars or lines.
    pub fn new(printer: Printer) -> Self {
        let bars = printer.interactive().then(|| {
            Mutex::new(Bars { all: MultiProgress::new(), layers: HashMap::new(), assembling: None })
        });
        Self { printer, bars }
    }

    /// Takes the bars off the screen, so that what follows starts on a clean line.
    pub fn finish(&self) {
        let Some(bars) = &self.bars else { return };
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in bars.layers.values() {
            bar.finish_and_clear();
        }
        if let Some(bar) = bars.assembling.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, step: &Step) {
        match step {
            Step::Resolved { requested, manifest } => {
                self.printer.words(format_args!("{requested}: {manifest}"))
            }
            Step::LayerStarted { layer, size } => {
                self.printer.words(format_args!("{}: fetching {}", layer.short(), bytes(*size)));
            }
            Step::LayerDone { layer } => self.printer.words(format_args!("{}: verified", layer.short())),
            Step::LayerCached { layer } => {
                self.printer.words(format_args!("{}: already here", layer.short()))
            }
            Step::UploadStarted { layer, size } => {
                self.printer.words(format_args!("{}: uploading {}", layer.short(), bytes(*size)));
            }
            Step::LayerSent { layer, how } => {
                let how = match how {
                    Sent::Present => "already there",
                    Sent::Mounted => "taken over from another repository",
                    Sent::Uploaded => "uploaded",
                };
                self.printer.words(format_args!("{}: {how}", layer.short()));
            }
            Step::Assembled { root_hash, size } => {
                self.printer.words(format_args!("root hash {root_hash}, {}", bytes(*size)));
            }
            Step::Notice(text) => self.printer.words(format_args!("note: {text}")),
            Step::LayerBytes { .. } | Step::Assembling => {}
        }
    }
}

impl Bars {
    fn step(&mut self, step: &Step) {
        match step {
            Step::LayerStarted { layer, size } | Step::UploadStarted { layer, size } => {
                let bar = self.all.add(ProgressBar::new(*size));
                bar.set_style(style(
                    "{prefix} {bar:30} {decimal_bytes:>9} / {decimal_total_bytes} {decimal_bytes_per_sec}",
                ));
                bar.set_prefix(layer.short());
                self.layers.insert(*layer, bar);
            }
            Step::LayerBytes { layer, received } => {
                if let Some(bar) = self.layers.get(layer) {
                    bar.set_position(*received);
                }
            }
            Step::LayerDone { layer } | Step::LayerSent { layer, .. } => {
                if let Some(bar) = self.layers.get(layer) {
                    bar.finish();
                }
            }
            Step::Assembling => {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(style("{spinner} making the root file system"));
                self.assembling = Some(bar);
            }
            Step::Resolved { .. } | Step::LayerCached { .. } | Step::Assembled { .. } | Step::Notice(_) => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Display {
    fn step(&self, step: Step) {
        match &self.bars {
            None => self.line(&step),
            Some(bars) => {
                let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
                bars.step(&step);
                // Whole lines go above the bars; while bars are drawn only these are worth one.
                if let Step::Notice(text) = &step {
                    drop(bars.all.println(format!("note: {text}")));
                }
            }
        }
    }
}
