//! Rules of the doors at which strangers knock: deterministic, synchronous, the time is an argument.
#![warn(missing_docs)]
