//! What must hold when all is over.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::agent::SLOTS;
use crate::args::Args;
use crate::client::Trouble;
use crate::journal::Complaints;
use crate::meter::Meter;
use crate::schedule::Kept;
use crate::target::verify_ledger;
use crate::verdict::Check;
use crate::world::{World, each};

/// Between two tries to fetch what is left.
const PAUSE: Duration = Duration::from_millis(200);

/// Fetches all mail and looks at the whole board, then says what holds and what does not.
pub(crate) async fn all(
    world: &Arc<World>,
    meter: &Meter,
    kept: Kept,
    args: &Args,
    data_dir: Option<&Path>,
) -> anyhow::Result<Vec<Check>> {
    let mut checks = vec![
        mail(world, args.grace).await?,
        board(world, args.grace).await?,
    ];
    let (wrong, texts) = world.wrong.all();
    checks.push(Check::of(
        "replies",
        wrong,
        &texts,
        "each was compared with what was asked".to_owned(),
    ));
    let (own, texts) = world.own.all();
    if own > 0 {
        checks.push(Check::of(
            "this side",
            own,
            &texts,
            "this program failed".to_owned(),
        ));
    }
    checks.push(refusals(meter, kept, args.allow));
    checks.push(pace(kept));
    if let Some(most) = args.p99 {
        let (_, p99) = meter.overall();
        let most = most.as_secs_f64() * 1e3;
        let detail = format!("p99 of all operations {p99:.1} ms, at most {most:.1} ms");
        checks.push(Check::new("latency", p99 <= most, detail));
    }
    if let Some(dir) = data_dir {
        let dir = dir.to_owned();
        let verified = tokio::task::spawn_blocking(move || verify_ledger(&dir)).await?;
        let passed = verified.is_ok();
        let (Ok(detail) | Err(detail)) = verified;
        checks.push(Check::new("ledger", passed, detail));
    }
    Ok(checks)
}

/// Every message that was acknowledged reached the application of its recipient, once.
async fn mail(world: &Arc<World>, grace: Duration) -> anyhow::Result<Check> {
    let troubles = Arc::new(Complaints::default());
    let until = Instant::now() + grace;
    let drain = |number| {
        let (world, troubles) = (Arc::clone(world), Arc::clone(&troubles));
        async move {
            if let Err(trouble) = empty(&world, number, until).await {
                world.note(&trouble);
                troubles.add(format!(
                    "the mail of agent {number} cannot be fetched: {}",
                    trouble.reason()
                ));
            }
        }
    };
    if timeout(grace * 2, each(world.agents.len(), drain))
        .await
        .is_err()
    {
        troubles.add("the time was over before all mail was fetched".to_owned());
    }
    let count = world.letters.count();
    let lost = world.letters.lost();
    let (unfetched, mut texts) = troubles.all();
    let complaints = lost.len() as u64 + unfetched;
    texts.extend(lost);
    let well = format!(
        "{} acknowledged, {} received once; {} handed out again before their receipt was known, {} without an answer",
        count.acknowledged, count.taken, count.again, count.unknown
    );
    Ok(Check::of("messages", complaints, &texts, well))
}

/// Fetches until there is nothing left, also where single tries fail.
async fn empty(world: &World, number: usize, until: Instant) -> Result<(), Trouble> {
    let agent = world.agent(number)?;
    loop {
        match world.fetch(agent).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(trouble @ (Trouble::Wrong(_) | Trouble::Own(_))) => return Err(trouble),
            Err(trouble) if Instant::now() >= until => return Err(trouble),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Every skill that was acknowledged is there as it was left.
async fn board(world: &Arc<World>, grace: Duration) -> anyhow::Result<Check> {
    let until = Instant::now() + grace;
    let look = |number: usize| {
        let world = Arc::clone(world);
        async move {
            let (owner, slot) = (number / SLOTS, number % SLOTS);
            let agent = world.agent(owner)?;
            if agent
                .slots
                .get(slot)
                .is_none_or(|slot| slot.newest().is_none())
            {
                return Ok(false);
            }
            loop {
                match world.acquire(agent, owner, slot).await {
                    Ok(_) => return Ok(true),
                    Err(Trouble::Refused { .. } | Trouble::Unanswered(_))
                        if Instant::now() < until =>
                    {
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(trouble) => return Err(trouble),
                }
            }
        }
    };
    let results = timeout(grace * 2, each(world.agents.len() * SLOTS, look)).await;
    let Ok(results) = results else {
        let detail = "the time was over before the whole board was compared".to_owned();
        return Ok(Check::new("skills", false, detail));
    };
    let (mut there, mut missing) = (0, Vec::new());
    for result in results? {
        match result {
            Ok(is_there) => there += u64::from(is_there),
            Err(trouble) => missing.push(match trouble {
                Trouble::Wrong(text) | Trouble::Own(text) => text,
                trouble => format!("a skill cannot be fetched: {}", trouble.reason()),
            }),
        }
    }
    let well = format!("{there} on the board, each as it was last acknowledged");
    Ok(Check::of("skills", missing.len() as u64, &missing, well))
}

/// No more was refused or not answered than is allowed.
fn refusals(meter: &Meter, kept: Kept, allow: f64) -> Check {
    let measured = meter.measured();
    let failed: u64 = measured.iter().map(|one| one.failures()).sum();
    let share = failed as f64 * 100.0 / kept.due.max(1) as f64;
    let mut reasons: Vec<String> = Vec::new();
    for one in &measured {
        reasons.extend(
            one.failed
                .iter()
                .map(|(reason, count)| format!("{count} × {} {reason}", one.operation)),
        );
    }
    let mut detail = format!(
        "{failed} of {} operations failed ({share:.2} %, at most {allow} %)",
        kept.due
    );
    if !reasons.is_empty() {
        detail.push_str(&format!(": {}", reasons.join(", ")));
    }
    if reasons.iter().any(|reason| reason.contains(" 429 ")) {
        detail.push_str(
            "; all agents come from one address, so raise the limits of the node or lower the rate",
        );
    }
    Check::new("refusals", share <= allow, detail)
}

/// Everything that was due was done.
fn pace(kept: Kept) -> Check {
    let detail = match kept.unfinished {
        0 => format!("all {} operations ended", kept.due),
        late => format!(
            "{late} of {} operations were not done in time; the node, or this machine, cannot do so many",
            kept.due
        ),
    };
    let passed = kept.unfinished == 0 && kept.due > 0;
    Check::new("pace", passed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::Operation;

    fn kept(due: u64, unfinished: u64) -> Kept {
        Kept {
            due,
            unfinished,
            seconds: 1.0,
            interrupted: false,
        }
    }

    #[test]
    fn refusals_count_against_what_was_due() {
        let meter = Meter::default();
        let now = Instant::now();
        let code = "rate_limited".to_owned();
        let refused = Err(Trouble::Refused { status: 429, code });
        meter.note(Operation::Send, now, now, &refused).unwrap();
        assert!(!refusals(&meter, kept(100, 0), 0.0).passed);
        let allowed = refusals(&meter, kept(100, 0), 1.0);
        assert!(
            allowed.passed && allowed.detail.contains("1 × relay.send 429 rate_limited"),
            "{allowed:?}"
        );
        assert!(allowed.detail.contains("raise the limits"), "{allowed:?}");
    }

    #[test]
    fn what_was_due_must_have_been_done() {
        assert!(pace(kept(10, 0)).passed);
        assert!(!pace(kept(10, 1)).passed);
        assert!(!pace(kept(0, 0)).passed);
    }
}
