//! File, environment and flags become the Config each folder defines.
