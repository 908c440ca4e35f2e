//! The floor: a bare epoll loop.

fn main() {}
