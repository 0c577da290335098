//! What nodes ask and tell each other: records, which of them somebody has, and requests of meetings.

use kairos_protocol::json;
use kairos_protocol::record::Record;
use kairos_protocol::record::ask::{RecordsAsked, RecordsTold};
use kairos_protocol::record::book::{LIST_MAX, Prefix, RecordBook, Summary};
use kairos_protocol::record::pull::{Pull, QUESTIONS_MAX};
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::carried::{AskHead, ToldHead, message};

use crate::words;

/// When the seeds hold.
fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

/// Reads `data` as a record, as what is asked and told of records, and as a request and an answer of a meeting.
pub fn run(data: &[u8]) -> String {
    let record = match Record::read(data, now()) {
        Ok(record) => {
            assert_eq!(Record::read(&record.to_bytes(), now()).ok(), Some(record));
            "a record".to_owned()
        }
        Err(error) => words(error),
    };
    let asked = match RecordsAsked::read(data) {
        Some(asked) => {
            assert_eq!(RecordsAsked::read(&asked.to_bytes()), Some(asked));
            "asked"
        }
        None => "not asked",
    };
    let told = match RecordsTold::read(data) {
        Ok(told) => {
            assert_eq!(RecordsTold::read(&told.to_bytes()).ok(), Some(told.clone()));
            believed(told)
        }
        Err(error) => words(error),
    };
    let head = match AskHead::read(data) {
        Ok((head, body)) => {
            // Written out, what may be left out can make it too long.
            if let Ok(again) = message(&head, body) {
                assert_eq!(AskHead::read(&again).expect("and read again"), (head, body));
            }
            "a request"
        }
        Err(_) => "no request",
    };
    let answer = match ToldHead::read(data) {
        Ok((head, body)) => format!("answer {} of {}", head.status / 100, body.len().min(1)),
        Err(_) => "no answer".to_owned(),
    };
    format!("{record}, {asked}, {told}, {head}, {answer}")
}

/// However somebody answers each question, questions end.
fn believed(told: RecordsTold) -> String {
    let mut book: RecordBook<Record, u8> = RecordBook::new(64);
    let sets = match told {
        RecordsTold::Sets(sets) => sets,
        other => {
            let (records, bad) = other.records(now());
            let good = records.len();
            for record in records {
                book.keep(record, 1, now());
            }
            return format!("{good} good, {bad} bad");
        }
    };
    let (mut pull, mut questions) = (Pull::default(), 0);
    while let Some(asked) = pull.next(&book) {
        questions += 1;
        pull.told(&asked, &sets, &book, &1);
    }
    assert!(questions <= QUESTIONS_MAX);
    for summary in sets.iter().flatten() {
        let difference = book.compare(&Prefix::default(), summary, &1);
        assert!(difference.wanted.len() <= LIST_MAX);
        if let Summary::List(_) = summary {
            assert!(difference.deeper.is_empty());
        }
        assert!(!json::canonical(&serde_json::json!(summary)).is_empty());
    }
    format!("{} sets, {} questions", sets.len().min(3), questions.min(3))
}
