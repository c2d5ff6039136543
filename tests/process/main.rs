//! The real program as a process: started twice, given directories that it cannot have.
//!
//! In reading order:
//!
//! - `server`: the program, serving a directory
//! - `directory`: directories that a server cannot have

mod directory;
mod server;
