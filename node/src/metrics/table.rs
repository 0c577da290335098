//! Figures that are taken at the moment somebody asks, as opposed to those that are counted along.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;

/// One moment's figures, in the order they are shown.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Figure>);

/// A family of values under one name.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    /// What tells the values apart, if anything does.
    label: Option<&'static str>,
    values: Vec<(&'static str, Value)>,
}

/// What a figure says.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Times(Histogram),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&Histogram> for Value {
    fn from(value: &Histogram) -> Self {
        Self::Times(value.clone())
    }
}

/// Values by what a label says.
pub(super) type Values = Vec<(&'static str, Value)>;

impl Table {
    /// Something that goes up and down.
    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        value: impl Into<Value>,
    ) {
        self.add(
            name,
            help,
            MetricType::Gauge,
            None,
            vec![("", value.into())],
        );
    }

    /// The same for each of several, told apart by `label`.
    pub(super) fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: Values,
    ) {
        self.add(name, help, MetricType::Gauge, Some(label), values);
    }

    /// Something that only grows. Its name gets `_total` behind it.
    pub(super) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        value: impl Into<Value>,
    ) {
        self.add(
            name,
            help,
            MetricType::Counter,
            None,
            vec![("", value.into())],
        );
    }

    /// The same for each of several, told apart by `label`.
    pub(super) fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: Values,
    ) {
        self.add(name, help, MetricType::Counter, Some(label), values);
    }

    /// Times that were observed.
    pub(super) fn times(&mut self, name: &'static str, help: &'static str, value: &Histogram) {
        self.add(
            name,
            help,
            MetricType::Histogram,
            None,
            vec![("", value.into())],
        );
    }

    /// The same for each of several, told apart by `label`.
    pub(super) fn times_of(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: Values,
    ) {
        self.add(name, help, MetricType::Histogram, Some(label), values);
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        label: Option<&'static str>,
        values: Values,
    ) {
        self.0.push(Figure {
            name,
            help,
            kind,
            label,
            values,
        });
    }
}

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for figure in self.0.iter().filter(|figure| !figure.values.is_empty()) {
            let mut family =
                encoder.encode_descriptor(figure.name, figure.help, None, figure.kind)?;
            match (figure.label, figure.values.as_slice()) {
                (None, [(_, value)]) => value.encode(figure.kind, family)?,
                (label, values) => {
                    for (said, value) in values {
                        let labels = [(label.unwrap_or("of"), *said)];
                        value.encode(figure.kind, family.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: MetricType, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match (self, kind) {
            (Self::Whole(value), MetricType::Counter) => {
                encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (Self::Real(value), MetricType::Counter) => {
                encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (Self::Whole(value), _) => encoder.encode_gauge(value),
            (Self::Real(value), _) => encoder.encode_gauge(value),
            (Self::Times(value), _) => value.encode(encoder),
        }
    }
}
