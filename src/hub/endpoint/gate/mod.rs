//! What every request passes, whatever it is for: who asks and from which page, whether there is room for it, and in which form
//! it is refused.

pub(super) mod access;
pub(super) mod cors;
pub(super) mod origin;
pub(super) mod overload;
pub(super) mod publish;
