//! Where a request stands in its trace: the header `traceparent` of W3C Trace Context.

/// The name of the header.
pub const HEADER: &str = "traceparent";
/// Length of the header in version 00.
const LENGTH: usize = 55;
/// The flag *sampled*.
const SAMPLED: u8 = 1;
/// Bits of a trace id that are random by the specification: the last seven bytes.
const RANDOM_BITS: u32 = 56;

/// A span and the trace that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    trace: [u8; 16],
    span: [u8; 8],
    /// Whether it is told to the collector. Of a span of somebody else: whether that one says so, which counts for nothing.
    kept: bool,
}

impl Context {
    /// The span `span`, of the trace of `parent` or of one of its own, which is then `trace`; both are random bytes. So
    /// many of a hundred traces are kept, and their ids alone decide which.
    pub(super) fn new(trace: [u8; 16], span: [u8; 8], parent: Option<Self>, percent: u32) -> Self {
        let trace = parent.map_or(trace, |parent| parent.trace);
        let number = u128::from_be_bytes(trace) & ((1 << RANDOM_BITS) - 1);
        Self {
            trace,
            span,
            kept: (number * 100) >> RANDOM_BITS < u128::from(percent),
        }
    }

    /// Reads the header. Nothing if it is malformed, as the specification asks.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.split_at_checked(LENGTH)?;
        let mut digits = head.bytes();
        if !digits.all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-')) {
            return None;
        }
        let mut parts = head.split('-');
        let [version] = bytes(parts.next()?)?;
        let (trace, span, [flags]) = (
            bytes(parts.next()?)?,
            bytes(parts.next()?)?,
            bytes(parts.next()?)?,
        );
        // Later versions may say more behind a further dash, version 00 may not, and ff is none.
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let named = trace != [0; 16] && span != [0; 8];
        (fits && named && parts.next().is_none()).then_some(Self {
            trace,
            span,
            kept: flags & SAMPLED != 0,
        })
    }

    /// The header for requests that belong to this span.
    pub fn header(&self) -> String {
        format!(
            "00-{}-{}-{:02x}",
            self.trace_id(),
            self.span_id(),
            u8::from(self.kept)
        )
    }

    /// In hex.
    pub(super) fn trace_id(&self) -> String {
        hex::encode(self.trace)
    }

    /// In hex.
    pub(super) fn span_id(&self) -> String {
        hex::encode(self.span)
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}
