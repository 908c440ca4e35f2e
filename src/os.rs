//! The few kernel calls no safe crate offers: the only file with `unsafe` in it.
