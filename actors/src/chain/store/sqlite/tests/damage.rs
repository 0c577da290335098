//! Logs that a power cut tore, and databases in which bits changed.

use proptest::prelude::*;

use super::*;

/// Blocks of a ledger, some in the database and the rest in its log.
const BLOCKS: usize = 24;
/// Bytes of a frame of the log but for its page.
const FRAME_HEADER: usize = 24;

/// A database and its log as they lie on the disk while a program has them open, and the entries in them.
struct Disk {
    database: Vec<u8>,
    log: Vec<u8>,
    entries: Vec<String>,
    /// How long the log was after each of the last appends, and how many blocks there were.
    acknowledged: Vec<(usize, usize)>,
}

fn disk() -> Disk {
    let place = Place::new();
    let log = place.path().with_file_name("kairos.db-wal");
    let store = place.open();
    let append = |n: usize| {
        let filler = "x".repeat(if n.is_multiple_of(5) { 3000 } else { 10 });
        store
            .append(one(format!("{n} {filler}")), &clock())
            .unwrap();
    };
    (0..BLOCKS / 2).for_each(append);
    place.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let mut acknowledged = vec![(0, 1 + BLOCKS / 2)];
    for n in BLOCKS / 2..BLOCKS {
        append(n);
        let length = fs::metadata(&log).unwrap().len();
        acknowledged.push((usize::try_from(length).unwrap(), n + 2));
    }
    let disk = Disk {
        database: fs::read(place.path()).unwrap(),
        log: fs::read(log).unwrap(),
        entries: entries(&store),
        acknowledged,
    };
    assert!(disk.log.len() > 10 * 4096 && disk.database.len() > 10 * 4096);
    disk
}

impl Disk {
    /// The place as whoever comes next finds it.
    fn found(&self, database: &[u8], log: &[u8]) -> Place {
        let place = Place::new();
        fs::create_dir_all(place.path().parent().unwrap()).unwrap();
        fs::write(place.path(), database).unwrap();
        fs::write(place.path().with_file_name("kairos.db-wal"), log).unwrap();
        place
    }
}

#[test]
fn a_torn_log_holds_everything_that_was_acknowledged_before_the_tear() {
    let disk = disk();
    let ends = disk.acknowledged.iter().map(|(length, _)| *length);
    // At each end of an append, beside it, and in between.
    let cuts = ends
        .flat_map(|end| [end.saturating_sub(1), end, end + FRAME_HEADER, end + 2000])
        .filter(|cut| *cut <= disk.log.len());
    for cut in cuts {
        let place = disk.found(&disk.database, &disk.log[..cut]);
        let store = place.open();
        assert!(store.verify().unwrap().is_valid(), "cut at {cut}");
        let there = entries(&store);
        let whole = disk.acknowledged.iter().rev().find(|(end, _)| *end <= cut);
        assert_eq!(there.len(), whole.unwrap().1, "cut at {cut}");
        assert_eq!(there, disk.entries[..there.len()], "cut at {cut}");
        // It goes on from there.
        store.append(one("more"), &clock()).unwrap();
        assert!(place.open().verify().unwrap().is_valid(), "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// A changed block is found. What no store can find alone is that the end is missing, which checkpoints are for.
    #[test]
    fn changed_bits_are_found_or_change_no_block(at in any::<prop::sample::Index>(), bit in 0..8_u8, in_log in any::<bool>()) {
        static DISK: std::sync::LazyLock<Disk> = std::sync::LazyLock::new(disk);
        let (mut database, mut log) = (DISK.database.clone(), DISK.log.clone());
        let bytes = if in_log { &mut log } else { &mut database };
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let place = DISK.found(&database, &log);
        let store = place.open();
        // Not even what an append makes of it may hide it.
        for _ in 0..2 {
            match store.verify() {
                Ok(report) if report.is_valid() => {
                    let there = entries(&store);
                    let kept = there.iter().filter(|entry| *entry != "more").count();
                    prop_assert_eq!(&there[..kept], &DISK.entries[..kept]);
                }
                Ok(report) => prop_assert!(report.problem.is_some()),
                Err(error) => prop_assert!(matches!(error, StoreError::Io { .. } | StoreError::NotReadable(_)), "{error}"),
            }
            let _may_be_refused = store.append(one("more"), &clock());
        }
    }
}
