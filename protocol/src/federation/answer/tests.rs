//! Questions and answers within their bounds, and liars out of them.

use std::sync::LazyLock;

use super::*;
use crate::crypto::Keypair;

static KEYS: LazyLock<[Keypair; 3]> =
    LazyLock::new(|| [(); 3].map(|()| Keypair::generate().unwrap()));

const TEXT: &str = "Warm the pot.\n";

fn id(which: usize) -> AgentId {
    KEYS[which].public().agent_id()
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn question(ask: Ask) -> Question {
    Question {
        journey: Journey::default(),
        nonce: "0".repeat(NONCE_LEN),
        ask,
    }
}

fn wanted() -> Question {
    question(Ask::Skill {
        skill_id: "tea".to_owned(),
        owner: Some(id(0)),
    })
}

/// Left by the agent 0 at the Place 1, for the agent 2.
fn facts() -> Facts {
    Facts {
        skill_id: "tea".to_owned(),
        name: "Tea".to_owned(),
        format: "markdown".to_owned(),
        content_hash: ContentHash::of(TEXT),
        depositor: id(0),
        depositor_key: KEYS[0].public().clone(),
        depositor_signature: KEYS[0].sign(TEXT.as_bytes()).unwrap(),
        deposited_at: now(),
        origin: None,
    }
}

fn told(question: &Question, answer: Answer, content: Option<&str>) -> Told {
    let hashes = (question.hash(), answer.hash());
    let passage = Passage::default();
    let passage = passage.signed(&KEYS[1], id(1), id(2), &hashes.0, &hashes.1, now());
    Told {
        answer,
        content: content.map(str::to_owned),
        passage: passage.unwrap(),
    }
}

fn check(question: &Question, answer: Answer, content: Option<&str>) -> Result<(), ToldError> {
    let Value::Object(members) = json!(told(question, answer, content)) else {
        panic!("an object");
    };
    Told::read(members)?.check(question, &[id(1)], &id(2), now())
}

fn skill(change: impl FnOnce(&mut Facts)) -> Answer {
    let mut facts = Box::new(facts());
    change(&mut facts);
    Answer::Skill { facts }
}

#[test]
fn a_skill_is_what_was_left_by_whom_it_is_said_to_be_and_stays_so() {
    let question = wanted();
    assert_eq!(check(&question, skill(|_| ()), Some(TEXT)), Ok(()));
    let other = check(&question, skill(|_| ()), Some("Heat the pot.\n"));
    assert_eq!(other, Err(ToldError::OtherContent));
    let none = check(&question, skill(|_| ()), None);
    assert_eq!(none, Err(ToldError::Member("content")));
    let elses = skill(|facts| facts.depositor_key = KEYS[1].public().clone());
    let elses = check(&question, elses, Some(TEXT));
    assert!(
        matches!(elses, Err(ToldError::Signature { .. })),
        "{elses:?}"
    );
    let by_another = check(
        &question,
        skill(|facts| facts.depositor = id(1)),
        Some(TEXT),
    );
    assert_eq!(by_another, Err(ToldError::OtherQuestion));
    let kept = Carried {
        question: question.hash(),
        facts: facts(),
        passage: told(&question, skill(|_| ()), None).passage,
    };
    assert_eq!(kept.verify(TEXT), Ok(()));
    assert!(kept.verify("other").is_err());
    let mut later = kept.clone();
    later.facts.deposited_at = now().plus(std::time::Duration::from_secs(1));
    assert!(later.verify(TEXT).is_err(), "the Place signed another time");
}

#[test]
fn the_first_signature_of_what_was_brought_is_checked_too() {
    let origin = |signer: usize| Origin {
        place: "p".to_owned(),
        agent: "a".to_owned(),
        via: vec!["p".to_owned()],
        deposited_at: now().wire(),
        signature: Some(KEYS[signer].sign(TEXT.as_bytes()).unwrap()),
        public_key: Some(KEYS[2].public().clone()),
        content_hash: Some(ContentHash::of(TEXT)),
    };
    let from = |origin: Origin| check(&wanted(), skill(|f| f.origin = Some(origin)), Some(TEXT));
    assert_eq!(from(origin(2)), Ok(()));
    assert!(matches!(from(origin(0)), Err(ToldError::Signature { .. })));
    let half = Origin {
        public_key: None,
        ..origin(2)
    };
    assert_eq!(from(half), Err(ToldError::Member("origin")));
    let endless = Origin {
        via: vec!["p".to_owned(); PLACES_MAX + 1],
        ..origin(2)
    };
    assert_eq!(from(endless), Err(ToldError::Member("origin")));
}

#[test]
fn an_answer_fits_its_question_and_its_bounds() {
    let entry = |name: &str| BoardEntry {
        kind: "agent".to_owned(),
        agent_id: id(0),
        name: name.to_owned(),
        skill_id: None,
        summary: String::new(),
        tags: Vec::new(),
        size_bytes: None,
        content_hash: None,
    };
    let board = |names: &[&str]| Answer::Board {
        entries: names.iter().map(|name| entry(name)).collect(),
        total: 1,
    };
    let asked = question(Ask::Board {
        kind: None,
        search: None,
        tags: Vec::new(),
        limit: 1,
    });
    assert_eq!(check(&asked, board(&["a"]), None), Ok(()));
    let long = "x".repeat(2_000);
    for bad in [board(&["a", "b"]), board(&["a\u{1b}b"]), board(&[&long])] {
        let refused = check(&asked, bad, None);
        assert_eq!(refused, Err(ToldError::Member("entries")));
    }
    let other = check(&wanted(), board(&["a"]), None);
    assert_eq!(other, Err(ToldError::OtherQuestion));
    let agent = id(1);
    let key = Answer::Key {
        agent: id(0),
        public_key: KEYS[0].public().clone(),
    };
    let refused = check(&question(Ask::Key { agent }), key, None);
    assert_eq!(refused, Err(ToldError::OtherQuestion));
    let Value::Object(huge) = json!({"content": "x".repeat(ANSWER_MAX)}) else {
        panic!("an object");
    };
    assert_eq!(Told::read(huge), Err(ToldError::TooLong));
}

#[test]
fn questions_have_bounds() {
    let board = |tags: usize, word: &str, limit: usize| {
        question(Ask::Board {
            kind: None,
            search: Some(word.to_owned()),
            tags: vec!["t".to_owned(); tags],
            limit,
        })
    };
    let long = "x".repeat(WORD_MAX + 1);
    assert_eq!(board(1, "tea", 1).check(), Ok(()));
    for bad in [
        board(TAGS_MAX + 1, "tea", 1),
        board(1, &long, 1),
        board(1, "a\nb", 1),
        board(1, "tea", ENTRIES_MAX + 1),
    ] {
        assert_eq!(bad.check(), Err(ToldError::Member("ask")));
    }
    let mut bad = wanted();
    bad.nonce = "x".repeat(NONCE_LEN);
    assert_eq!(bad.check(), Err(ToldError::Member("nonce")));
}
