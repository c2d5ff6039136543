//! The binary of jet-session.

fn main() {}
