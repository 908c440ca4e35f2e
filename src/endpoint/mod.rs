//! What a URL does.
