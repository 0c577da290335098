//! Padding to a few sizes, so that the length of a sealed message tells its magnitude and no more.
//!
//! Padded bytes are the length of the content as four bytes, most significant first, the content, and zeros.

use zeroize::Zeroizing;

/// The sizes there are, in bytes. The smallest message, with its signature, needs more than half of the first.
pub const BUCKETS: [usize; 6] = [1_024, 4_096, 16_384, 65_536, 262_144, 524_288];
/// Longest content that is padded, in bytes.
pub const CONTENT_MAX: usize = 524_288 - PREFIX;
/// Length of the length.
const PREFIX: usize = 4;

/// Pads `content` to the smallest bucket that holds it; nothing if it is longer than [`CONTENT_MAX`].
pub(super) fn pad(content: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let size = BUCKETS
        .into_iter()
        .find(|size| content.len() + PREFIX <= *size)?;
    let len = u32::try_from(content.len()).ok()?;
    let mut padded = Zeroizing::new(Vec::with_capacity(size));
    padded.extend_from_slice(&len.to_be_bytes());
    padded.extend_from_slice(content);
    padded.resize(size, 0);
    Some(padded)
}

/// The content of `padded`; nothing if it is not exactly what [`pad`] makes of it.
pub(super) fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (len, rest) = padded.split_first_chunk::<PREFIX>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (content, zeros) = rest.split_at_checked(len)?;
    let size = BUCKETS.into_iter().find(|size| len + PREFIX <= *size)?;
    (padded.len() == size && zeros.iter().all(|byte| *byte == 0)).then_some(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_smallest_bucket_that_fits() {
        for (len, size) in [
            (0, 1_024),
            (1_020, 1_024),
            (1_021, 4_096),
            (CONTENT_MAX, 524_288),
        ] {
            let content = vec![7; len];
            let padded = pad(&content).unwrap();
            assert_eq!(padded.len(), size);
            assert_eq!(unpad(&padded).unwrap(), content);
        }
        assert!(pad(&vec![7; CONTENT_MAX + 1]).is_none());
    }

    #[test]
    fn refuses_every_other_padding() {
        let good = pad(b"abc").unwrap();
        let mut marked = good.clone();
        marked[1_023] = 1;
        let larger = [good.as_slice(), &[0; 3_072]].concat();
        let mut beyond = good.clone();
        beyond[2] = 0xff;
        for bad in [
            &[][..],
            &[0, 0, 0],
            &marked,
            &good[..1_023],
            &larger,
            &beyond,
        ] {
            assert_eq!(unpad(bad), None);
        }
    }

    proptest! {
        #[test]
        fn what_unpads_is_what_was_padded(mut bytes in prop::collection::vec(any::<u8>(), 0..2_000), size in 0..2_usize, zero: bool) {
            if zero {
                bytes.splice(0..bytes.len().min(4), [0, 0, 3]);
                bytes.resize(BUCKETS[size], 0);
            }
            if let Some(content) = unpad(&bytes) {
                let padded = pad(content).unwrap();
                prop_assert_eq!(padded.as_slice(), bytes.as_slice());
            }
        }
    }
}
