//! The ring, the cursor, the lap. Pure.
