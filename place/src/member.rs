//! An agent at a Meeting Place it joined: what it does next, and when. The mirror of [`meeting_place`](super::meeting_place).
//!
//! A [`Rhythm`] is told what happened and when, and says what is due. It opens no connection and reads no clock; chance
//! comes in as a [`Draw`], so that members of one Place do not all come at once.

use std::time::Duration;

use kairos_protocol::time::Timestamp;

/// First pause after a failure; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest time that a Place may tell us to wait; it may not send us away for ever.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// How many signs of life fit into the time after which a Place takes an agent for gone.
const BEATS_PER_LIFE: u32 = 3;
/// How much rarer mail is asked for while the Place tells of it by itself.
const LISTENING_FACTOR: u32 = 10;
/// How often is looked whether enough prekeys are left.
const TEND_EVERY: Duration = Duration::from_secs(3600);
/// How much of a session is left when the next one is opened, as a fraction.
const RENEW_FRACTION: u32 = 10;

/// Chance: any number, each as likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw(pub u32);

impl Draw {
    /// Something between half of `span` and all of it.
    fn within(self, span: Duration) -> Duration {
        let half = span / 2;
        half + half.mul_f64(f64::from(self.0) / f64::from(u32::MAX))
    }
}

/// How fast an agent lives at its Places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Longest time without a sign of life. A Place that forgets its agents earlier gets more.
    pub beat: Duration,
    /// How often mail is asked for where the Place does not tell of it.
    pub poll: Duration,
    /// Longest pause after failures.
    pub pause_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(600),
            poll: Duration::from_secs(60),
            pause_max: Duration::from_secs(900),
        }
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Register, and so get a session.
    Register,
    /// See whether the Place still has what we left there: prekeys, deposits, needs.
    Tend,
    /// Fetch mail.
    Collect,
    /// Give a sign of life.
    Beat,
    /// Nothing before this time.
    Wait(Timestamp),
}

/// Why a step did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The Place does not know our session: it ended, or the Place began anew.
    Session,
    /// Anything else, with the pause that the Place asked for.
    Failed {
        /// From its header `Retry-After`.
        retry_after: Option<Duration>,
    },
}

/// What an agent does at one Place, and when.
#[derive(Debug, Clone)]
pub struct Rhythm {
    pace: Pace,
    fades_after: Option<Duration>,
    has_relay: bool,
    listening: bool,
    /// Failures since the last step that succeeded. A registration alone is no success: a Place that hands out
    /// sessions and refuses each would else be asked without end.
    failures: u32,
    not_before: Timestamp,
    renew_at: Option<Timestamp>,
    beat_at: Timestamp,
    collect_at: Timestamp,
    tend_at: Timestamp,
}

impl Rhythm {
    /// The life of an agent that begins at `now`, with a registration.
    pub fn new(pace: Pace, now: Timestamp) -> Self {
        Self {
            pace,
            fades_after: None,
            has_relay: true,
            listening: false,
            failures: 0,
            not_before: now,
            renew_at: None,
            beat_at: now,
            collect_at: now,
            tend_at: now,
        }
    }

    /// What is due at `now`.
    pub fn next(&self, now: Timestamp) -> Step {
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        let Some(renew_at) = self.renew_at.filter(|at| now < *at) else {
            return Step::Register;
        };
        if now >= self.tend_at {
            return Step::Tend;
        }
        if self.has_relay && now >= self.collect_at {
            return Step::Collect;
        }
        if now >= self.beat_at {
            return Step::Beat;
        }
        let mail = match self.has_relay {
            true => self.collect_at,
            false => self.beat_at,
        };
        let next = renew_at.min(self.tend_at).min(self.beat_at).min(mail);
        Step::Wait(next)
    }

    /// A session was opened that is good for `lasts`; the Place takes agents for gone after `fades_after`.
    pub fn registered(
        &mut self,
        now: Timestamp,
        lasts: Duration,
        fades_after: Option<Duration>,
        draw: Draw,
    ) {
        self.renew_at = Some(now.plus(lasts - lasts / RENEW_FRACTION));
        self.fades_after = fades_after;
        self.tend_at = now;
        self.collect_at = now;
        self.beat_at = now.plus(self.beat_in(draw));
    }

    /// Whether the Place has a relay. Without one no mail is asked for.
    pub fn has_relay(&mut self, has: bool) {
        self.has_relay = has;
    }

    /// Whether the Place tells of mail by itself from here on.
    pub fn listening(&mut self, listening: bool) {
        self.listening = listening;
    }

    /// The Place told of mail.
    pub fn mail(&mut self, now: Timestamp) {
        self.collect_at = self.collect_at.min(now);
    }

    /// A step succeeded, and was a sign of life like every request.
    pub fn done(&mut self, step: Step, now: Timestamp, draw: Draw) {
        self.failures = 0;
        self.beat_at = now.plus(self.beat_in(draw));
        match step {
            Step::Tend => self.tend_at = now.plus(draw.within(TEND_EVERY)),
            Step::Collect => {
                let every = match self.listening {
                    true => self.pace.poll * LISTENING_FACTOR,
                    false => self.pace.poll,
                };
                self.collect_at = now.plus(draw.within(every));
            }
            Step::Register | Step::Beat | Step::Wait(_) => {}
        }
    }

    /// A step failed. What was due stays due, after a pause that grows with each failure.
    pub fn failed(&mut self, trouble: Trouble, now: Timestamp, draw: Draw) {
        self.failures = self.failures.saturating_add(1);
        let pause = draw.within(self.pause());
        match trouble {
            // The first time there is nothing to wait for: the Place is there and does not know us.
            Trouble::Session => {
                self.renew_at = None;
                let pause = if self.failures == 1 {
                    Duration::ZERO
                } else {
                    pause
                };
                self.not_before = now.plus(pause);
            }
            Trouble::Failed { retry_after } => {
                let told = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                self.not_before = now.plus(pause.max(told));
            }
        }
    }

    fn beat_in(&self, draw: Draw) -> Duration {
        let within = self.fades_after.map(|life| life / BEATS_PER_LIFE);
        draw.within(within.unwrap_or(self.pace.beat).min(self.pace.beat))
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(31);
        let pause = PAUSE_MIN.saturating_mul(1 << doublings);
        pause.min(self.pace.pause_max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MOST: Draw = Draw(u32::MAX);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    fn failed(retry_after: Option<u64>) -> Trouble {
        let retry_after = retry_after.map(Duration::from_secs);
        Trouble::Failed { retry_after }
    }

    /// Registered, with everything done that is due then.
    fn settled() -> Rhythm {
        let mut life = Rhythm::new(Pace::default(), at(0));
        assert_eq!(life.next(at(0)), Step::Register);
        life.registered(at(0), HOUR, None, MOST);
        for step in [Step::Tend, Step::Collect] {
            assert_eq!(life.next(at(0)), step);
            life.done(step, at(0), MOST);
        }
        life
    }

    #[test]
    fn registers_looks_after_its_things_fetches_mail_and_then_lives_quietly() {
        let mut life = settled();
        assert_eq!(life.next(at(0)), Step::Wait(at(60)));
        assert_eq!(life.next(at(60)), Step::Collect);
        life.done(Step::Collect, at(60), MOST);
        assert_eq!(life.next(at(60)), Step::Wait(at(120)));
    }

    #[test]
    fn whoever_is_told_of_mail_asks_rarely_and_at_once_when_told() {
        let mut life = settled();
        life.listening(true);
        life.done(Step::Collect, at(0), MOST);
        // The sign of life comes before the next look for mail, both at ten minutes here.
        assert_eq!(life.next(at(10)), Step::Wait(at(600)));
        life.mail(at(10));
        assert_eq!(life.next(at(10)), Step::Collect);
    }

    #[test]
    fn a_place_without_a_relay_is_not_asked_for_mail() {
        let mut life = settled();
        life.has_relay(false);
        assert_eq!(life.next(at(60)), Step::Wait(at(600)));
        assert_eq!(life.next(at(600)), Step::Beat);
    }

    #[test]
    fn beats_often_enough_for_a_place_that_forgets_fast() {
        let mut life = settled();
        life.has_relay(false);
        life.registered(at(0), HOUR, Some(Duration::from_secs(30)), MOST);
        life.done(Step::Tend, at(0), MOST);
        assert_eq!(life.next(at(0)), Step::Wait(at(10)));
    }

    #[test]
    fn opens_the_next_session_before_the_old_one_ends() {
        let life = settled();
        assert_eq!(life.next(at(3240)), Step::Register);
        assert_ne!(life.next(at(3239)), Step::Register);
    }

    #[test]
    fn a_session_that_is_refused_is_replaced_at_once_but_not_again_and_again() {
        let mut life = settled();
        life.failed(Trouble::Session, at(60), MOST);
        assert_eq!(life.next(at(60)), Step::Register);
        life.registered(at(60), HOUR, None, MOST);
        life.failed(Trouble::Session, at(60), MOST);
        assert_eq!(life.next(at(60)), Step::Wait(at(62)));
    }

    #[test]
    fn waits_as_long_as_a_busy_place_asks_for_within_reason() {
        let mut life = settled();
        life.failed(failed(Some(120)), at(60), MOST);
        assert_eq!(life.next(at(61)), Step::Wait(at(180)));
        life.failed(failed(Some(1 << 40)), at(180), MOST);
        assert_eq!(life.next(at(181)), Step::Wait(at(180 + 3600)));
    }

    proptest! {
        #[test]
        fn pauses_grow_to_their_bound_and_no_further(draws in prop::collection::vec(any::<u32>(), 1..80)) {
            let mut life = settled();
            let (mut now, mut least) = (at(60), Duration::from_millis(500));
            for draw in draws {
                life.failed(failed(None), now, Draw(draw));
                let Step::Wait(until) = life.next(now) else { panic!("a failure is followed by a pause") };
                let pause = until.since(now);
                prop_assert!(pause >= least && pause <= Pace::default().pause_max, "{pause:?}");
                least = (least * 2).min(Pace::default().pause_max / 2);
                now = until;
                prop_assert!(!matches!(life.next(now), Step::Wait(_)));
            }
        }

        #[test]
        fn a_place_that_refuses_every_session_is_asked_ever_more_rarely(draw: u32) {
            let mut life = Rhythm::new(Pace::default(), at(0));
            let (mut now, mut asked) = (at(0), 0);
            while now < at(86_400) {
                match life.next(now) {
                    Step::Register => {
                        asked += 1;
                        life.registered(now, HOUR, None, Draw(draw));
                    }
                    Step::Wait(until) => {
                        prop_assert!(until > now);
                        now = until;
                    }
                    _ => life.failed(Trouble::Session, now, Draw(draw)),
                }
            }
            prop_assert!(asked < 220, "{asked} registrations in a day");
        }

        #[test]
        fn there_is_always_something_to_do_or_a_time_to_wait_for(
            events in prop::collection::vec((0..7_u8, any::<u32>(), 0..10_000_u64), 0..200),
        ) {
            let mut life = Rhythm::new(Pace::default(), at(0));
            let mut now = at(0);
            for (event, draw, secs) in events {
                let (draw, span) = (Draw(draw), Duration::from_secs(secs));
                match (event, life.next(now)) {
                    (0, _) => life.registered(now, span, Some(span), draw),
                    (1, _) => life.failed(failed(Some(secs)), now, draw),
                    (2, _) => life.failed(Trouble::Session, now, draw),
                    (3, _) => life.listening(secs % 2 == 0),
                    (4, _) => life.mail(now),
                    (_, Step::Wait(until)) => {
                        prop_assert!(until > now && until.since(now) <= RETRY_AFTER_MAX.max(Pace::default().poll * 10));
                        now = until;
                    }
                    (_, step) => life.done(step, now, draw),
                }
            }
        }
    }
}
