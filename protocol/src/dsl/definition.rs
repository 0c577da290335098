//! Definitions: what of them holds, what they say in words, and where they and the content went apart.
//!
//! Verdicts, details and texts are the reference's wherever it is right. Where it is not:
//!
//! | the reference | here |
//! |---|---|
//! | a missing value counts as human judgment, and `unknown` is always 0 | `unknown` counts what a value would decide |
//! | a report in which nothing was decided says that all is well | it says that nothing was decided |
//! | `count < 5` reads `5` as a variable | numbers are numbers, in all comparisons |
//! | `==` knows `true` and `false` only, `!=` nothing | both know numbers, symbols, texts and variables |
//! | quotes are part of an argument, `a, b` is one text | `"red"` is the text, two arguments are refused |
//! | `empty?()` and its like get an argument and fail | they get none, and `tags.empty?` is read as well |
//! | whether a method is allowed is asked after whether there is one | the list is all there is |
//! | over MCP, no value can be given | [`Context::of`] tells what the host knows, and callers bind more |
//! | `skill not in immutable_skills` needs the id in another form | a skill is looked for by its id |
//! | a symbol looked up in a text raises out of the report | unknown, with the reason |
//! | `decompile` raises for steps that are no list | it says that there are none |
//! | `drift` of an empty definition raises in the tool | it says that there is nothing to compare |
//! | words are looked up as parts of other words | that stays for the ratio; [`Statement`] tells whole words |

mod condition;
mod decompile;
mod drift;
mod verify;

pub use self::decompile::decompile;
pub use self::drift::{Direction, Drift, DriftItem, Match, Statement, drift};
pub use self::verify::{Bound, Context, Needs, Outcome, Report, Summary, verify};

#[cfg(test)]
mod tests;
