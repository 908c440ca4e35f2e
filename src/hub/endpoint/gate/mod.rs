//! The gate: what every request passes. Who asks, from which page, and whether there is room.

pub(super) mod access;
pub(super) mod audit;
pub(super) mod cors;
pub(super) mod fields;
pub(super) mod origin;
pub(super) mod overload;
pub(super) mod publish;
