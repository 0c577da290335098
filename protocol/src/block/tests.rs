use super::*;

#[test]
fn hashes_a_time_with_six_digits_and_its_own_offset() {
    for (written, hashed) in [
        ("2026-01-20T10:30:00Z", "2026-01-20T10:30:00.000000Z"),
        ("2026-01-20T10:30:00.123456Z", "2026-01-20T10:30:00.123456Z"),
        ("2026-01-20T10:30:00.5Z", "2026-01-20T10:30:00.500000Z"),
        (
            "2026-01-20T10:30:00.1234567Z",
            "2026-01-20T10:30:00.123456Z",
        ),
        (
            "2026-01-20T10:30:00+00:00",
            "2026-01-20T10:30:00.000000+00:00",
        ),
        (
            "2026-01-20T10:30:00.25-03:30",
            "2026-01-20T10:30:00.250000-03:30",
        ),
    ] {
        assert_eq!(hashed_time(written).as_deref(), Some(hashed));
        let exact = (written == hashed && written.ends_with('Z'))
            .then(|| Timestamp::parse(written).unwrap());
        assert_eq!(exact_time(written), exact);
    }
}

#[test]
fn refuses_a_time_that_the_reference_would_not_print() {
    for bad in [
        "",
        "yesterday",
        "2026-01-20",
        "2026-01-20T10:30:00",
        "2026-01-20T10:30:00.Z",
        "2026-01-20T10:30:00.123456",
        "2026-13-20T10:30:00Z",
        "2026-02-30T10:30:00Z",
        "2026-01-20t10:30:00z",
        "2026-01-20 10:30:00Z",
        "2026-01-20T10:30:60Z",
        "2026-01-20T10:30:60.000000Z",
        "2026-02-30T10:30:00.000000Z",
        "2026-01-20T10:30:00-00:00",
        "2026-01-20T10:30:00+0900",
        "2026-01-20T10:30:00Z ",
        "2026-01-20T10:30:0０Z",
    ] {
        assert_eq!(hashed_time(bad), None, "{bad}");
        assert_eq!(exact_time(bad), None, "{bad}");
    }
}

#[test]
fn the_genesis_block_is_the_constant_of_the_format() {
    assert_eq!(
        Block::genesis().hash().to_hex(),
        "19bcc95a7b5946ca2c1029728cb623975c2807690f8fd354ca6799878c4b7efd"
    );
}

#[test]
fn accepts_a_stored_block_without_a_hash_but_not_with_a_wrong_one() {
    let block = Block::seal(
        1,
        Timestamp::EPOCH,
        vec!["a".to_owned()],
        Block::genesis().hash(),
    );
    let mut stored = StoredBlock::from(block.clone());
    stored.hash = None;
    assert_eq!(stored.clone().seal(), Ok(block.clone()));
    stored.hash = Some(ContentHash::of("other"));
    assert_eq!(
        stored.seal(),
        Err(BlockError::Hash {
            actual: block.hash()
        })
    );
}

#[test]
fn only_genesis_may_carry_the_filler_root() {
    let mut stored = StoredBlock::from(Block::genesis().clone());
    assert!(stored.clone().seal().is_ok());
    stored.hash = None;
    stored.index = 1;
    assert_eq!(stored.seal(), Err(BlockError::Root));
}

#[test]
fn bounds_what_one_block_takes() {
    let entry = |bytes: usize| vec!["x".repeat(bytes)];
    assert_eq!(check_entries(&[]), Err(EntriesError::None));
    assert_eq!(check_entries(&entry(ENTRY_BYTES_MAX)), Ok(()));
    assert_eq!(
        check_entries(&entry(ENTRY_BYTES_MAX + 1)),
        Err(EntriesError::TooLong(ENTRY_BYTES_MAX + 1))
    );
    assert_eq!(
        check_entries(&vec![String::new(); ENTRIES_MAX + 1]),
        Err(EntriesError::TooMany(ENTRIES_MAX + 1))
    );
}
