//! The composition: pull, assemble, run, supervise.
