//! Whole-system tests of mvm and what they share.
