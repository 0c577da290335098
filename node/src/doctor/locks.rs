//! Who holds which lock, and whether they can let go of it.

use kairos_actors::passing::INBOX;

use super::{Findings, counted};
use crate::data_dir::DataDir;
use crate::data_dir::holders::{self, Condition, Holding};
use crate::data_dir::survey::Survey;

pub(super) fn check(dir: &DataDir, survey: &Survey, found: &mut Findings) {
    let tenancy = dir.tenancy_file();
    match holders::of(&tenancy) {
        Holding::Free => found.ok("locks.users", "no program has the directory open"),
        held => found.ok("locks.users", format!("open in {held}")),
    }
    const CHECK: &str = "locks";
    let mut looked_at = 0_usize;
    let mut held = Vec::new();
    let locks = survey
        .entries
        .iter()
        .filter(|entry| (entry.is_lock() || entry.shown == INBOX) && entry.path != tenancy);
    for lock in locks {
        looked_at += 1;
        match holders::of(&lock.path) {
            Holding::Free => {}
            holding => held.push((lock.shown.as_str(), holding)),
        }
    }
    let mut stuck = false;
    for (name, holding) in &held {
        let fix = match holding {
            Holding::By(holders) => holders.iter().find_map(|holder| match holder.condition {
                Condition::Running => None,
                Condition::Stopped => Some(format!(
                    "let it go on with kill -CONT {}, or end it",
                    holder.pid
                )),
                Condition::Gone => {
                    Some("end the child that still has the file open; lsof names it".to_owned())
                }
            }),
            Holding::Free | Holding::Unseen => None,
        };
        if let Some(fix) = fix {
            stuck = true;
            found.warn(CHECK, format!("{name} is held by {holding}"), fix);
        }
    }
    if stuck {
        return;
    }
    match held.as_slice() {
        [] => found.ok(
            CHECK,
            format!("{}, none of them held", counted(looked_at, "lock file")),
        ),
        held => {
            let told: Vec<_> = held
                .iter()
                .map(|(name, by)| format!("{name} by {by}"))
                .collect();
            found.ok(
                CHECK,
                format!("a change is under way: {}", super::some(&told)),
            );
        }
    }
}
