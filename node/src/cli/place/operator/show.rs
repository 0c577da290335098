//! What came of an order, for people.

use serde_json::Value;

use super::super::super::out::{Cell, Out, Tone};
use crate::operate::Order;

pub(super) fn told(order: &Order, told: &Value, out: &mut Out) -> std::io::Result<()> {
    match order {
        Order::Agents { .. } => agents(told, out),
        Order::Bans { .. } => bans(told, out),
        Order::Audit { .. } => audit(told, out),
        Order::Kick { agent, .. } => out.line(format_args!(
            "Agent {agent} was made to leave; {} ended.",
            sessions(told)
        )),
        Order::Ban { target, .. } => {
            let until = told.pointer("/ban/until").and_then(Value::as_str);
            let until = until.map_or("until it is taken back".to_owned(), |until| {
                format!("until {until}")
            });
            out.line(format_args!(
                "Banned {target} {until}; {} ended.",
                sessions(told)
            ))?;
            let left = told.get("left").and_then(Value::as_array);
            for id in left.into_iter().flatten() {
                out.line(format_args!("  Agent {} left.", text(id)))?;
            }
            match told.get("mail_withheld").and_then(Value::as_u64) {
                None | Some(0) => Ok(()),
                Some(1) => out.line(format_args!("  1 message that waits is withheld.")),
                Some(count) => out.line(format_args!("  {count} messages that wait are withheld.")),
            }
        }
        Order::Unban { target } => out.line(format_args!("{target} is not banned any more.")),
        Order::Status | Order::Stats | Order::Federation(_) => members("", told, out),
    }
}

fn sessions(told: &Value) -> String {
    match told
        .get("sessions_ended")
        .and_then(Value::as_u64)
        .unwrap_or(0)
    {
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    }
}

/// A value as a person reads it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list<'t>(told: &'t Value, name: &str) -> &'t [Value] {
    told.get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// One member a line.
pub(in crate::cli) fn members(before: &str, told: &Value, out: &mut Out) -> std::io::Result<()> {
    for (name, value) in told.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => members(&format!("{before}{name}."), value, out)?,
            value => out.line(format_args!("{before}{name}: {}", text(value)))?,
        }
    }
    Ok(())
}

fn agents(told: &Value, out: &mut Out) -> std::io::Result<()> {
    let rows = list(told, "agents").iter().map(|agent| {
        let of = |name: &str| agent.get(name).map(text).unwrap_or_default();
        let is_self = agent.get("is_self") == Some(&Value::Bool(true));
        [
            Cell::from(of("id")),
            Cell::from(of("name")),
            Cell::from(if is_self {
                "the Place".to_owned()
            } else {
                of("strength")
            }),
            Cell::from(of("key")),
            Cell::from(of("address")),
            Cell::from(of("deposits")),
            Cell::from(of("last_seen")),
        ]
    });
    out.table(
        [
            "AGENT",
            "NAME",
            "SHOWN",
            "KEY",
            "ADDRESS",
            "DEPOSITS",
            "LAST SEEN",
        ],
        rows,
    )?;
    more(told, "agents --after", out)
}

fn bans(told: &Value, out: &mut Out) -> std::io::Result<()> {
    if list(told, "bans").is_empty() {
        return out.line("Nobody is banned.");
    }
    let rows = list(told, "bans").iter().map(|ban| {
        let of = |name: &str| ban.get(name).map(text).unwrap_or_default();
        let until = of("until");
        [
            Cell::toned(Tone::Strong, of("target")),
            Cell::from(of("since")),
            Cell::from(if until.is_empty() {
                "taken back".to_owned()
            } else {
                until
            }),
            Cell::from(of("by")),
            Cell::from(of("reason")),
        ]
    });
    out.table(["WHOM", "SINCE", "UNTIL", "BY", "REASON"], rows)?;
    more(told, "bans --after", out)
}

fn audit(told: &Value, out: &mut Out) -> std::io::Result<()> {
    if list(told, "entries").is_empty() {
        return out.line("Nothing of that kind was written down.");
    }
    let rows = list(told, "entries").iter().map(|entry| {
        let of = |name: &str| entry.get(name).map(text).unwrap_or_default();
        let mut rest = entry.clone();
        if let Value::Object(members) = &mut rest {
            for name in ["timestamp", "event_type", "action"] {
                members.remove(name);
            }
            members.retain(|_, value| !value.is_null());
        }
        let kind = match of("action") {
            action if action.is_empty() => of("event_type"),
            action => format!("{} {action}", of("event_type")),
        };
        [
            Cell::from(of("timestamp")),
            Cell::from(kind),
            Cell::from(rest),
        ]
    });
    out.table(["TIME", "WHAT", "DETAILS"], rows)?;
    more(told, "audit --before", out)
}

fn more(told: &Value, how: &str, out: &mut Out) -> std::io::Result<()> {
    match told.get("next") {
        None | Some(Value::Null) => Ok(()),
        Some(next) => out.note(format_args!(
            "More:  kairos-chain place {how} {}",
            text(next)
        )),
    }
}
