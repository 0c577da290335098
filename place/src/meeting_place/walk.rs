//! Walks over what a Place holds, counted in tests.
//!
//! Whatever goes over agents, deposits or cards one after the other does so through [`walked`], or says [`step`] for
//! each. A test counts the steps, so that nothing but a listing comes to cost more because more agents are there.

/// `all` as it is; each of it counts as a step.
pub(super) fn walked<T: IntoIterator>(all: T) -> impl Iterator<Item = T::Item> {
    all.into_iter().inspect(|_| step())
}

/// Counts a step.
pub(super) fn step() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

#[cfg(test)]
std::thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Steps on this thread since the last call.
#[cfg(test)]
pub(super) fn take_steps() -> usize {
    STEPS.with(|steps| steps.replace(0))
}
