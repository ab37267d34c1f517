//! The links over real sockets of this machine, with a book in memory.

mod book;
mod decoder;
mod fuzzed;
mod lending;
mod liars;
mod rogue;
mod runs;
mod site;
mod strangers;
