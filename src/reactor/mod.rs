//! One thread: the turn, accept, connections, timers, the Net seam.
