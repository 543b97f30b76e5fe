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
    done: Option<ProgressBar>,
    assembling: Option<ProgressBar>,
    closure: Option<ProgressBar>,
    build: Option<ProgressBar>,
}

impl Display {
    /// Chooses bars or lines.
    pub fn new(printer: Printer) -> Self {
        let bars = printer.interactive().then(|| Mutex::new(Bars::new(MultiProgress::new())));
        Self { printer, bars }
    }

    /// Takes the bars off the screen, so that what follows starts on a clean line.
    pub fn finish(&self) {
        let Some(bars) = &self.bars else { return };
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in bars.layers.values() {
            bar.finish_and_clear();
        }
        for bar in [bars.done.take(), bars.assembling.take(), bars.closure.take(), bars.build.take()]
            .into_iter()
            .flatten()
        {
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
            Step::Closure { paths, missing: 0, .. } => {
                self.printer.words(format_args!("{paths} store paths, all of them here"));
            }
            Step::Closure { paths, missing, size } => {
                self.printer
                    .words(format_args!("{paths} store paths, {missing} to fetch ({})", bytes(*size)));
            }
            Step::Notice(text) => self.printer.words(format_args!("note: {text}")),
            Step::BuilderStarting => self.printer.words("starting the builder"),
            Step::Building { derivation } => self.printer.words(format_args!("building {derivation}")),
            Step::BuildLine { of, text } => self.printer.words(build_line(of.as_deref(), text)),
            Step::LayerBytes { .. }
            | Step::ClosureBytes { .. }
            | Step::Assembling
            | Step::BuildCounted(_) => {}
        }
    }
}

/// Returns a line of a build, with what wrote it.
fn build_line(of: Option<&str>, text: &str) -> String {
    match of {
        Some(of) => format!("{of}> {text}"),
        None => text.to_owned(),
    }
}

impl Bars {
    fn new(all: MultiProgress) -> Self {
        Self { all, layers: HashMap::new(), done: None, assembling: None, closure: None, build: None }
    }

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
                // An image may have more layers than the screen has lines, and those that move must be seen.
                if let Some(bar) = self.layers.remove(layer) {
                    bar.finish_and_clear();
                    self.all.remove(&bar);
                }
                self.count();
            }
            Step::LayerCached { .. } => self.count(),
            Step::Closure { missing: 0, .. } => {}
            Step::Closure { size, .. } => {
                let bar = self.all.add(ProgressBar::new(*size));
                bar.set_style(style(
                    "store paths {bar:30} {decimal_bytes:>9} / {decimal_total_bytes} {decimal_bytes_per_sec}",
                ));
                self.closure = Some(bar);
            }
            Step::ClosureBytes { received } => {
                if let Some(bar) = &self.closure {
                    bar.set_position(*received);
                }
            }
            Step::Assembling => {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(style("{spinner} making the root file system"));
                self.assembling = Some(bar);
            }
            Step::BuilderStarting => self.build().set_message("starting the builder"),
            Step::Building { derivation } => self.build().set_message(derivation.clone()),
            Step::BuildCounted(counts) => {
                let left = counts.expected.saturating_sub(counts.done);
                let mut words = format!("{} built, {left} left", counts.done);
                if counts.downloaded > 0 {
                    words.push_str(&format!(", {} downloaded", bytes(counts.downloaded)));
                }
                self.build().set_prefix(words);
            }
            Step::Resolved { .. } | Step::Assembled { .. } | Step::Notice(_) | Step::BuildLine { .. } => {}
        }
    }

    /// Returns the bar of a build.
    fn build(&mut self) -> &ProgressBar {
        self.build.get_or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {prefix} {wide_msg}"));
            bar
        })
    }

    /// Counts one more layer that needs no bar.
    fn count(&mut self) {
        let done = self.done.get_or_insert_with(|| {
            let bar = self.all.insert(0, ProgressBar::new_spinner());
            bar.set_style(style("layers done: {pos}"));
            bar
        });
        done.inc(1);
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
                let line = match &step {
                    Step::Notice(text) => Some(format!("note: {text}")),
                    Step::BuildLine { of, text } => Some(build_line(of.as_deref(), text)),
                    _ => None,
                };
                line.into_iter().for_each(|line| drop(bars.all.println(line)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::ProgressDrawTarget;

    #[test]
    fn only_layers_under_way_have_bars() {
        let mut bars = Bars::new(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()));
        let layers: Vec<_> = (0..60_u8).map(|at| Digest::of(&[at])).collect();
        for layer in &layers {
            bars.step(&Step::LayerStarted { layer: *layer, size: 1 });
        }
        bars.step(&Step::LayerCached { layer: layers[0] });
        for layer in &layers[2..] {
            bars.step(&Step::LayerDone { layer: *layer });
        }
        assert_eq!(bars.layers.len(), 2);
        assert_eq!(bars.done.map(|bar| bar.position()), Some(59));
    }
}
