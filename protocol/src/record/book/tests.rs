use std::time::Duration;

use proptest::prelude::*;

use super::super::ask::RecordsAsked;
use super::super::pull::{Pull, QUESTIONS_MAX};
use super::*;

#[derive(Debug, Clone, PartialEq)]
struct Card(AgentId, u64, Timestamp);

impl Entry for Card {
    fn id(&self) -> &AgentId {
        &self.0
    }

    fn sequence(&self) -> u64 {
        self.1
    }

    fn expires_at(&self) -> Timestamp {
        self.2
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_secs(seconds))
}

fn card(n: u32, sequence: u64) -> Card {
    Card(format!("{n:016x}").parse().unwrap(), sequence, at(1_000))
}

type Book = RecordBook<Card, u8>;

fn book(cards: impl IntoIterator<Item = (u32, u64)>) -> Book {
    let mut book = Book::new(4_096);
    for (n, sequence) in cards {
        book.keep(card(n, sequence), 0, at(0));
    }
    book
}

/// Has `to` fetch what `from` has, and says in how many questions.
fn pull(to: &mut Book, from: &Book) -> usize {
    let (mut pull, mut questions) = (Pull::default(), 0);
    while let Some(asked) = pull.next(to) {
        questions += 1;
        assert_eq!(RecordsAsked::read(&asked.to_bytes()).as_ref(), Some(&asked));
        match &asked {
            RecordsAsked::Sets(sets) => {
                let told: Vec<_> = sets.iter().map(|(p, f)| from.summary(p, *f)).collect();
                pull.told(&asked, &told, to, &1);
            }
            RecordsAsked::Agents(agents) => {
                for id in agents {
                    to.keep(from.get(id, at(0)).unwrap().clone(), 1, at(0));
                }
            }
            _ => panic!("nothing else is asked"),
        }
    }
    questions
}

#[test]
fn the_newest_record_that_holds_is_kept() {
    let mut book = Book::new(8);
    let id = card(1, 1).0;
    for (sequence, kept) in [
        (2, Kept::New),
        (1, Kept::Known),
        (2, Kept::Known),
        (3, Kept::Newer),
    ] {
        assert_eq!(book.keep(card(1, sequence), 0, at(0)), kept);
    }
    assert_eq!(book.keep(card(1, 4), 0, at(1_000)), Kept::Over);
    assert_eq!(book.get(&id, at(999)).unwrap().1, 3);
    assert_eq!(book.get(&id, at(1_000)), None);
    book.expire(at(1_000));
    assert!(book.is_empty() && book.brought.is_empty());
}

#[test]
fn whoever_brings_many_makes_room_for_others() {
    let mut book = Book::new(100);
    for n in 0..40 {
        book.keep(card(n, 1), 1, at(0));
    }
    for n in 1_000..2_000 {
        book.keep(card(n, 1), 9, at(0));
    }
    assert_eq!(
        (book.len(), book.brought[&1], book.brought[&9]),
        (100, 40, 60)
    );
    // A few more of an honest one still find room.
    for n in 40..45 {
        book.keep(card(n, 1), 1, at(0));
    }
    assert_eq!(
        (book.len(), book.brought[&1], book.brought[&9]),
        (100, 45, 55)
    );
}

#[test]
fn full_books_do_not_fetch_from_each_other_forever() {
    let full = |from: u32| {
        let mut book = Book::new(100);
        for n in from..from + 100 {
            book.keep(card(n, 1), 0, at(0));
        }
        book
    };
    let (mut one, other) = (full(0), full(1_000));
    let mut fetched = 0;
    for _ in 0..20 {
        let before: Vec<Card> = one.records().cloned().collect();
        pull(&mut one, &other);
        fetched = one.records().filter(|card| !before.contains(card)).count();
    }
    assert_eq!((one.len(), fetched), (100, 0));
    assert_eq!(one.brought.values().copied().collect::<Vec<_>>(), [50, 50]);
}

#[test]
fn equal_books_need_one_question() {
    let one = book((0..3_000).map(|n| (n, 1)));
    assert_eq!(pull(&mut one.clone(), &one), 1);
}

#[test]
fn what_is_missing_is_found_in_few_questions() {
    let all = book((0..2_000).map(|n| (n, 1)));
    let mut some = book((0..1_990).map(|n| (n, 1)));
    assert!(pull(&mut some, &all) <= 5);
    assert_eq!(
        some.fingerprint(&Prefix::default()),
        all.fingerprint(&Prefix::default())
    );
    // A newcomer takes several pulls, as each has a bound.
    let mut none = book([]);
    let pulls = (1..).find(|_| {
        assert!(pull(&mut none, &all) <= QUESTIONS_MAX);
        none.len() == all.len()
    });
    assert!(pulls.unwrap() <= 6, "{pulls:?}");
}

#[test]
fn only_short_lower_case_hex_names_a_part() {
    for good in ["", "0", "a3f", "0123456789abcdef"] {
        assert_eq!(good.parse::<Prefix>().unwrap().to_string(), good);
    }
    for bad in ["A", "g", " ", "0123456789abcdef0", "é"] {
        assert_eq!(bad.parse::<Prefix>(), Err(PrefixError), "{bad}");
    }
    let (first, last) = "a3f".parse::<Prefix>().unwrap().range();
    assert!(first.to_hex().starts_with("a3f000") && last.to_hex().starts_with("a3ffff"));
}

proptest! {
    #[test]
    fn two_books_become_one_when_each_asks_the_other(
        ours in prop::collection::btree_map(0..600_u32, 1..4_u64, 0..300),
        theirs in prop::collection::btree_map(0..600_u32, 1..4_u64, 0..300),
    ) {
        let (mut one, mut other) = (book(ours.clone()), book(theirs.clone()));
        pull(&mut one, &other);
        pull(&mut other, &one);
        let mut both = ours;
        for (n, sequence) in theirs {
            let newest = both.entry(n).or_default();
            *newest = sequence.max(*newest);
        }
        let expected = book(both);
        let all = Prefix::default();
        prop_assert_eq!(one.fingerprint(&all), expected.fingerprint(&all));
        prop_assert_eq!(other.fingerprint(&all), expected.fingerprint(&all));
    }
}
