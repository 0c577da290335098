//! What is counted of requests.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Bounds of the histogram of durations, in seconds: an answer that is ready takes some microseconds, one that checks
/// a signature or waits for the disk milliseconds.
const SECONDS: [f64; 9] = [0.0001, 0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];
/// The route of requests that fit none.
const UNMATCHED: &str = "unmatched";
/// Methods told apart; the last one stands for all others.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "other"];
/// The classes of statuses.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    method: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What all threads count together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Requests {
    ended: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    under_way: Gauge,
    refusals: Family<ReasonLabel, Counter>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            under_way: Gauge::default(),
            refusals: Family::default(),
        }
    }
}

impl Requests {
    /// Has `registry` show all of it.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "http_requests",
            "Requests that were answered, by route, method and class of status",
            self.ended.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's head to its answer's head, by route and method",
            self.seconds.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests whose answer has not begun",
            self.under_way.clone(),
        );
        registry.register(
            "refusals",
            "Answers that are errors, by their code",
            self.refusals.clone(),
        );
    }
}

/// Counts for one thread, which remembers where each route is counted.
///
/// A request is found by its path if the route has no parts that vary, else by the pattern of the route: so there is an
/// entry for each route and never one for a path that somebody made up.
#[derive(Debug)]
pub struct Counting {
    requests: Requests,
    routes: RefCell<HashMap<Arc<str>, Rc<Route>>>,
}

#[derive(Debug)]
struct Route {
    name: Arc<str>,
    methods: [OnceCell<Counts>; METHODS.len()],
}

#[derive(Debug)]
struct Counts {
    seconds: Histogram,
    classes: [OnceCell<Counter>; CLASSES.len()],
}

/// A request under way; counts as such until it is dropped.
#[derive(Debug)]
pub struct UnderWay {
    route: Rc<Route>,
    method: usize,
    begun: Instant,
    gauge: Gauge,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Counting {
    /// Counts into `requests`.
    pub fn new(requests: Requests) -> Self {
        Self {
            requests,
            routes: RefCell::default(),
        }
    }

    /// A request has begun. `pattern` is asked for the pattern of its route where `path` alone does not tell it.
    pub fn begin(
        &self,
        path: &str,
        pattern: impl FnOnce() -> Option<String>,
        method: &str,
    ) -> UnderWay {
        let known = METHODS.iter().position(|known| *known == method);
        self.requests.under_way.inc();
        UnderWay {
            route: self.route(path, pattern),
            method: known.unwrap_or(METHODS.len() - 1),
            begun: Instant::now(),
            gauge: self.requests.under_way.clone(),
        }
    }

    /// A request got an answer with this status.
    pub fn end(&self, request: UnderWay, status: u16) {
        let UnderWay {
            route,
            method,
            begun,
            ..
        } = &request;
        let (Some(cell), Some(method)) = (route.methods.get(*method), METHODS.get(*method)) else {
            return;
        };
        let counts = cell.get_or_init(|| Counts {
            seconds: self.requests.seconds.get_or_create_owned(&RouteLabels {
                route: Arc::clone(&route.name),
                method,
            }),
            classes: Default::default(),
        });
        counts.seconds.observe(begun.elapsed().as_secs_f64());
        let class = usize::from(status / 100).saturating_sub(1);
        let class = class.min(CLASSES.len() - 1);
        if let (Some(cell), Some(status)) = (counts.classes.get(class), CLASSES.get(class)) {
            let counter = cell.get_or_init(|| {
                self.requests.ended.get_or_create_owned(&RequestLabels {
                    route: Arc::clone(&route.name),
                    method,
                    status,
                })
            });
            counter.inc();
        }
    }

    /// An answer was an error with this code.
    pub fn refuse(&self, reason: &'static str) {
        let label = ReasonLabel { reason };
        self.requests.refusals.get_or_create(&label).inc();
    }

    fn route(&self, path: &str, pattern: impl FnOnce() -> Option<String>) -> Rc<Route> {
        if let Some(route) = self.routes.borrow().get(path) {
            return Rc::clone(route);
        }
        let pattern = pattern();
        let name = pattern.as_deref().unwrap_or(UNMATCHED);
        let mut routes = self.routes.borrow_mut();
        if let Some(route) = routes.get(name) {
            return Rc::clone(route);
        }
        let name: Arc<str> = name.into();
        let route = Rc::new(Route {
            name: Arc::clone(&name),
            methods: Default::default(),
        });
        routes.insert(name, Rc::clone(&route));
        route
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_somebody_makes_up_take_no_room() {
        let requests = Requests::default();
        let counting = Counting::new(requests.clone());
        let count = |path: &str, pattern: Option<&str>, method: &str, status| {
            let request = counting.begin(path, || pattern.map(str::to_owned), method);
            assert_eq!(requests.under_way.get(), 1);
            counting.end(request, status);
            assert_eq!(requests.under_way.get(), 0);
        };
        for n in 0..100 {
            count(&format!("/agents/{n}"), Some("/agents/{id:.*}"), "GET", 200);
            count(&format!("/{n}"), None, &format!("M{n}"), 404);
            count("/health", Some("/health"), "GET", 200);
        }
        assert_eq!(counting.routes.borrow().len(), 3);
        let mut registry = Registry::default();
        requests.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        let lines = text.lines();
        let lines: Vec<_> = lines
            .filter(|line| line.starts_with("http_requests_total"))
            .collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines.iter().all(|line| line.ends_with(" 100")), "{text}");
    }
}
