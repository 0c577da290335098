//! What Meeting Places agree on, and how they pass on what is asked of one of them through another.
//!
//! Two Places are federated while an [`agreement`] is in effect that both signed. A [`journey`] is the way of one question
//! from Place to Place, chosen by whoever asks; the answer comes back with a [`passage`]: every Place on the way signed
//! what it handed to the next. [`answer`] has what is answered. Nobody forwards anything by itself.

pub mod agreement;
pub mod answer;
pub mod journey;
pub mod letter;
pub mod passage;
