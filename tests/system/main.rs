//! The server as its users meet it: the real program, real sockets, and real peers around it
//! (nginx as backends, Unbound as the resolver in front, dig as the client).

mod cli;
mod client;
mod failover;
mod harness;
mod hostile;
mod shares;
