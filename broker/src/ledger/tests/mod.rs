//! The ledger's promises, tested on a virtual clock, a disk in memory and simulated hosts.

mod dead_letters;
mod hosts;
mod modules;
mod queues;
mod recovery;
mod removal;
mod retention;
mod sim;
mod tasks;
mod window;
