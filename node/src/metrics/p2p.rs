//! Figures of the libp2p node, where there is one.

use kairos_actors::discovery::{Figures, Shown, Status};

use super::table::Table;

/// Adds what the node told of itself.
pub(super) fn add(table: &mut Table, shown: &Shown) {
    let status = &shown.status;
    let Status {
        inbound,
        outbound,
        figures,
        ..
    } = status;
    table.gauges(
        "kairos_p2p_connections",
        "Connections of the libp2p node, by who opened them",
        "direction",
        vec![("in", (*inbound).into()), ("out", (*outbound).into())],
    );
    table.gauge(
        "kairos_p2p_nodes",
        "Nodes in the table of the network",
        status.table,
    );
    table.gauge(
        "kairos_p2p_records",
        "Records that the node keeps for the table, ours too",
        status.records,
    );
    table.gauge(
        "kairos_p2p_agents",
        "Agents whose records are known and passed on",
        shown.listed,
    );
    add_connections(table, figures);
    add_exchanges(table, figures);
}

fn add_connections(table: &mut Table, figures: &Figures) {
    let (refused, records) = (figures.connections_refused, figures.records_refused);
    table.counters(
        "kairos_p2p_connections_opened",
        "Connections that were opened, by whom",
        "direction",
        vec![
            ("in", figures.opened_in.into()),
            ("out", figures.opened_out.into()),
        ],
    );
    table.counter(
        "kairos_p2p_dials_failed",
        "Dials that led to no connection",
        figures.dials_failed,
    );
    table.counters(
        "kairos_p2p_connections_refused",
        "Connections of others that were not taken, by reason",
        "reason",
        vec![
            ("bound", refused.bound.into()),
            ("memory", refused.memory.into()),
            ("address", refused.address.into()),
        ],
    );
    table.counter(
        "kairos_p2p_records_stored",
        "Records of others that were stored",
        figures.records_stored,
    );
    table.counters(
        "kairos_p2p_records_refused",
        "Records of others that were not stored, by reason",
        "reason",
        vec![
            ("share", records.share.into()),
            ("unfit", records.unfit.into()),
            ("room", records.room.into()),
        ],
    );
}

fn add_exchanges(table: &mut Table, figures: &Figures) {
    table.counters(
        "kairos_p2p_requests",
        "Requests of other nodes, by what they are for",
        "protocol",
        vec![
            ("meeting", figures.meetings.into()),
            ("records", figures.records_asked.into()),
        ],
    );
    table.counter(
        "kairos_p2p_requests_lost",
        "Requests of other nodes that nobody took in time",
        figures.requests_lost,
    );
    table.counter(
        "kairos_p2p_circuits",
        "Connections of others that were passed on",
        figures.circuits,
    );
    table.counter(
        "kairos_p2p_circuits_refused",
        "Connections of others, and places for them, that were refused",
        figures.circuits_refused,
    );
    table.counters(
        "kairos_p2p_punches",
        "Connections through a relay of which a direct one was tried, by what came of it",
        "result",
        vec![
            ("direct", figures.punched.into()),
            ("failed", figures.punches_failed.into()),
        ],
    );
    table.counters(
        "kairos_p2p_message_bytes",
        "Bytes of requests and answers",
        "direction",
        vec![
            ("in", figures.bytes_in.into()),
            ("out", figures.bytes_out.into()),
        ],
    );
}
