//! Agents that live at a Meeting Place: join, sleep, write, read, and outlive its failures and its lies.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use kairos_tests::{Asked, Call, Ended, Home, Stranger, TestNode, eventually};
use serde_json::{Value, json};

pub(crate) const TEA: &str =
    "---\ndescription: How to serve tea\ntags: [tea]\npublic: true\n---\n\nWarm the pot.\n";
/// What a Place must never get to see.
const SECRET: &str = "the pot is behind the blue door";

pub(crate) fn place(home: &Home) -> TestNode {
    place_at(home, 0)
}

/// Every agent of a test has the same address, so what one address may ask for is no bound here.
pub(crate) fn place_at(home: &Home, port: u16) -> TestNode {
    TestNode::builder()
        .home(home)
        .port(port)
        .arg("--place")
        .set("limits.requests_per_address", "100000")
        .set("limits.requests_per_session", "10000")
        .start()
}

/// Lives at its Places and waits for nothing long.
pub(crate) fn awake(home: &Home) -> TestNode {
    TestNode::builder()
        .home(home)
        .set("membership.poll", "1s")
        .set("membership.heartbeat", "1s")
        .set("membership.pause", "1s")
        .start()
}

pub(crate) fn member(place: &TestNode) -> Home {
    let home = Home::initialized();
    let joined = home.json(["place", "join", &place.url("")]);
    assert_eq!(joined["proven"], true, "{joined}");
    assert_eq!(joined["untended"], Value::Null, "{joined}");
    home
}

pub(crate) fn id(home: &Home) -> String {
    home.json(["identity"])["id"]
        .as_str()
        .expect("an agent has an id")
        .to_owned()
}

pub(crate) fn write(from: &Home, to: &str, text: &str) -> Value {
    from.json(["place", "message", "send", to, text])
}

pub(crate) fn read(home: &Home) -> Vec<Value> {
    let read = home.json(["place", "message", "read"]);
    assert_eq!(read["troubles"], json!([]), "{read}");
    read["messages"].as_array().expect("a list").clone()
}

/// The contents of the sealed messages in the inbox.
pub(crate) fn inbox(home: &Home) -> Vec<String> {
    let entries = home.json(["inbox"]);
    let sealed = entries.as_array().expect("a list").iter();
    sealed
        .filter(|entry| entry.get("place").is_some())
        .map(|entry| entry["payload"].as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn a_sealed_message_waits_for_a_sleeping_agent_and_is_read_once() {
    let host = Home::new();
    let place = place(&host);
    let (ada, ben) = (member(&place), member(&place));
    let to = id(&ben);
    let sent = write(&ada, &to, SECRET);
    assert_eq!(
        (&sent["envelope"], &sent["repeated"]),
        (&json!(2), &json!(false))
    );
    for (path, bytes) in host.files() {
        let seen = bytes
            .windows(SECRET.len())
            .any(|part| part == SECRET.as_bytes());
        assert!(!seen, "{} holds the message", path.display());
    }
    // Whoever does not know what became of a message sends it again under its name.
    let name = sent["message_id"].as_str().unwrap();
    let again = ["place", "message", "send", &to, SECRET, "--id", name];
    assert_eq!(ada.json(again)["repeated"], true);

    let [message]: [Value; 1] = read(&ben).try_into().unwrap();
    assert_eq!(
        (&message["payload"], &message["from"]),
        (&json!(SECRET), &json!(id(&ada)))
    );
    assert_eq!(message["strength"], "proven");
    assert!(read(&ben).is_empty(), "it is read once");
    let all = ben.json(["place", "message", "read", "--all", "--offline"]);
    assert_eq!(all["messages"].as_array().unwrap().len(), 1);

    // Mail is fetched before an agent leaves; afterwards nobody there knows it.
    write(&ada, &id(&ben), "farewell");
    ben.run(["place", "leave", &place.url("")]).done();
    assert_eq!(inbox(&ben), [SECRET, "farewell"]);
    assert_eq!(ben.json(["place", "list"]), json!([]));
}

#[test]
fn a_skill_crosses_a_place_through_the_quarantine() {
    let host = Home::new();
    let place = place(&host);
    let (ada, ben) = (member(&place), member(&place));
    ada.skill("tea", TEA);
    ada.json(["place", "deposit", "tea"]);
    let refused = ada.run(["place", "deposit", "meeting_safely"]).failed(1);
    assert!(refused.contains("no public skill"), "{refused}");

    let found = ben.json(["place", "search", "tea", "--type", "skill", "--tags", "tea"]);
    assert_eq!(found["entries"][0]["have"], "new", "{found}");
    let came = ben.json(["place", "acquire", "tea", "--owner", &id(&ada)]);
    let held = &came["quarantined"];
    let checks = held["evidence"]["checks"].as_array().unwrap();
    for name in [
        "content hash",
        "depositor's signature",
        "as listed",
        "key pin",
    ] {
        let passed = checks
            .iter()
            .any(|c| c["name"] == name && c["outcome"] == "passed");
        assert!(passed, "{name}: {held}");
    }
    let waiting = held["id"].as_str().unwrap();
    ben.run(["approve", "--yes", waiting]).done();
    let text = fs::read_to_string(ben.data_dir().join("knowledge/tea/tea.md")).unwrap();
    assert_eq!(text, TEA);
    let found = ben.json(["place", "search", "tea"]);
    assert_eq!(found["entries"][0]["have"], "current");
    ada.skill("tea", &TEA.replace("Warm", "Heat"));
    ada.json(["place", "deposit", "tea"]);
    assert_eq!(
        ben.json(["place", "search", "tea"])["entries"][0]["have"],
        "changed"
    );

    ben.json(["place", "need", "add", "cups", "Two or more"]);
    let needs = ada.json(["place", "browse", "--type", "need"]);
    assert_eq!(needs["entries"][0]["entry"]["name"], "cups", "{needs}");
    ben.json(["place", "need", "remove", "cups"]);
    assert_eq!(
        ada.json(["place", "browse", "--type", "need"])["entries"],
        json!([])
    );

    ada.json(["place", "withdraw", "tea", "--reason", "out of date"]);
    assert_eq!(ben.json(["place", "search", "tea"])["entries"], json!([]));
    let gone = ada
        .run(["place", "withdraw", "tea", "--reason", "again"])
        .failed(1);
    assert!(gone.contains("not among what"), "{gone}");
}

#[test]
fn a_place_that_was_killed_has_its_agents_back_by_themselves() {
    let host = Home::new();
    let place = place(&host);
    let port = place.address().port();
    let (ada, ben) = (member(&place), member(&place));
    let ben_lives = awake(&ben);
    eventually("ben lives there", || {
        ben_lives
            .log()
            .contains("registered at a Place")
            .then_some(())
    });
    place.kill();
    let _place = place_at(&host, port);
    write(&ada, &id(&ben), "are you there?");
    eventually("ben has the message", || {
        (inbox(&ben) == ["are you there?"]).then_some(())
    });
}

#[test]
fn a_place_that_lost_everything_gets_back_what_was_left_there() {
    let host = Home::new();
    let place = place(&host);
    let port = place.address().port();
    let (ada, ben) = (member(&place), member(&place));
    ben.skill("tea", TEA);
    ben.skill("cake", &TEA.replace("tea", "cake"));
    for skill in ["tea", "cake"] {
        ben.json(["place", "deposit", skill]);
    }
    ben.json(["place", "need", "add", "cups"]);
    // What changed since is not left again: nobody said that the new text should be there.
    ben.skill("cake", &TEA.replace("tea", "pie"));
    place.kill();
    fs::remove_dir_all(host.data_dir().join("storage/place")).unwrap();
    let _place = place_at(&host, port);
    let _ben_lives = awake(&ben);
    let names = || {
        let browsed = ada.json(["place", "browse"]);
        let entries = browsed["entries"].as_array().unwrap().iter();
        let ours = entries.filter(|entry| entry["entry"]["agent_id"] == id(&ben).as_str());
        let mut names: Vec<String> = ours
            .filter(|entry| entry["entry"]["type"] != "agent")
            .map(|entry| entry["entry"]["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    eventually("all is back", || (names() == ["cups", "tea"]).then_some(()));
    let sent = write(&ada, &id(&ben), "welcome back");
    assert_eq!(sent["envelope"], 2, "prekeys are back");
    eventually("ben has the message", || {
        (inbox(&ben) == ["welcome back"]).then_some(())
    });
}

#[test]
fn mail_is_fetched_also_where_a_place_takes_nothing_of_what_is_left_there() {
    let host = Home::new();
    let place = place(&host);
    let port = place.address().port();
    let (ada, ben) = (member(&place), member(&place));
    ben.skill("tea", TEA);
    ben.json(["place", "deposit", "tea"]);
    place.kill();
    fs::remove_dir_all(host.data_dir().join("storage/place")).unwrap();
    // It lost everything, and takes neither the skill back nor one-time prekeys.
    let _place = TestNode::builder()
        .home(&host)
        .port(port)
        .arg("--place")
        .set("place.deposits_per_agent", "0")
        .set("place.prekeys_per_agent", "0")
        .start();
    let ben_lives = awake(&ben);
    eventually("the refusal is told", || {
        let log = ben_lives.log();
        log.contains("a skill was not taken again").then_some(())
    });
    // The long-lived prekey is there all the same.
    let sent = eventually("ben can be written to", || {
        let sent = ada.run(["--json", "place", "message", "send", &id(&ben), "hello"]);
        serde_json::from_str::<Value>(&sent.stdout).ok()
    });
    assert_eq!(sent["envelope"], 2, "{sent}");
    eventually("ben has the message", || {
        (inbox(&ben) == ["hello"]).then_some(())
    });
    // A command that does something else there is not kept from it either.
    ben.json(["place", "need", "add", "cups"]);
}

#[test]
fn a_server_and_commands_that_read_one_box_deliver_once() {
    let host = Home::new();
    let place = place(&host);
    let (ada, ben) = (member(&place), member(&place));
    let _ben_lives = awake(&ben);
    let to = id(&ben);
    let mut wanted = Vec::new();
    for n in 0..5 {
        let text = format!("message {n}");
        write(&ada, &to, &text);
        wanted.push(text);
        // At the same time as the server, which was told of it.
        read(&ben);
    }
    eventually("all is there", || {
        (inbox(&ben).len() >= wanted.len()).then_some(())
    });
    let mut found = inbox(&ben);
    found.sort();
    assert_eq!(found, wanted);
    let unopened = ben.json(["place", "message", "read", "--all"]);
    assert_eq!(
        unopened["unopened"],
        json!([]),
        "what the other took is no failure"
    );
}

#[test]
fn the_demo_of_a_place_tells_its_story_and_leaves_nothing_behind() {
    let home = Home::new();
    let told = Call::new(["demo", "--place"])
        .current_dir(home.path())
        .env("TMPDIR", home.path())
        .run();
    let text = told.done();
    for said in [
        "Ben reads, signed by Ada: «Ben, the good pot is behind the blue door.»",
        "writing in Ada's name is refused: the peer refused (403 proof_required)",
        "after 20 messages Mallory is refused",
        "enqueue from",
        "no file of the Place holds a word of it",
    ] {
        assert!(text.contains(said), "no `{said}` in\n{text}");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

type Trick = Arc<dyn Fn(&str, Asked, &Keypair) -> Option<Asked> + Send + Sync>;

/// A Place as KairosChain 3.75 runs one, without challenge and relay, and with one skill by somebody who is away.
struct FakePlace {
    server: Stranger,
    author: Arc<Keypair>,
}

impl FakePlace {
    /// `trick` gets every request first, and gives back those that are to be answered as usual.
    fn start(
        trick: impl Fn(&str, Asked, &Keypair) -> Option<Asked> + Send + Sync + 'static,
    ) -> Self {
        let author = Arc::new(Keypair::generate().unwrap());
        let (trick, key): (Trick, _) = (Arc::new(trick), Arc::clone(&author));
        let server = Stranger::start(move |asked| {
            let what = asked.what.split('?').next().unwrap_or_default().to_owned();
            if let Some(asked) = trick(&what, asked, &key) {
                usual(&what, asked, &key);
            }
        });
        Self { server, author }
    }

    fn joined(&self) -> Home {
        let home = Home::initialized();
        let joined = home.run(["place", "join", &self.server.url()]);
        assert!(
            joined.stderr.contains("relays no messages"),
            "{}",
            joined.stderr
        );
        assert!(
            joined.stderr.contains("asks for no proof"),
            "{}",
            joined.stderr
        );
        joined.done();
        home
    }
}

fn content(author: &Keypair) -> Value {
    let signature = author.sign(TEA.as_bytes()).unwrap();
    json!({
        "skill_id": "tea", "name": "tea", "content": TEA, "content_hash": ContentHash::of(TEA).to_hex(),
        "format": "yaml_frontmatter", "depositor_id": author.public().agent_id(),
        "depositor_signature": signature,
    })
}

fn usual(what: &str, asked: Asked, author: &Keypair) {
    let id = author.public().agent_id();
    let answer = match what {
        "GET /place/v1/info" => json!({"name": "Fake", "version": "0.2.0", "registered_agents": 1}),
        "POST /place/v1/register" => {
            json!({"status": "registered", "identity_verified": true, "session_token": "ab".repeat(32)})
        }
        "GET /place/v1/board/browse" => json!({"entries": [{
            "type": "deposited_skill", "agent_id": id, "name": "tea", "skill_id": "tea",
            "content_hash": ContentHash::of(TEA).to_hex(),
        }], "total_available": 1}),
        "GET /place/v1/skill_content/tea" => content(author),
        "POST /meeting/v1/goodbye" => json!({}),
        other if other == format!("GET /place/v1/keys/{id}") => {
            json!({"agent_id": id, "public_key": author.public().to_pem()})
        }
        other => {
            let body = json!({"error": "not_found", "message": other});
            return asked.answer(404, body.to_string());
        }
    };
    asked.json(&answer);
}

fn acquire(home: &Home) -> Ended {
    // Shorter than what is waited for elsewhere, so that silence is told from slowness.
    Call::new([
        "--set",
        "client.idle_timeout=3s",
        "--set",
        "client.total_timeout=6s",
        "place",
        "acquire",
        "tea",
    ])
    .home(home)
    .run()
}

#[test]
fn a_place_of_the_reference_is_joined_as_far_as_it_goes() {
    let fake = FakePlace::start(|_, asked, _| Some(asked));
    let home = fake.joined();
    acquire(&home).done();
    let held = home.json(["quarantine", "list"])["waiting"][0].clone();
    assert_eq!(
        held["evidence"]["from"],
        fake.author.public().agent_id().as_str()
    );
    let refused = home
        .run(["place", "message", "send", "somebody", "hello"])
        .failed(1);
    assert!(refused.contains("relays no messages"), "{refused}");
}

#[test]
fn nothing_of_what_a_lying_place_sends_is_kept() {
    let wanted = "GET /place/v1/skill_content/tea";
    let changed = |member: &'static str, value: Value| -> Trick {
        Arc::new(move |what, asked, author| {
            if what != wanted {
                return Some(asked);
            }
            let mut answer = content(author);
            answer[member] = value.clone();
            asked.json(&answer);
            None
        })
    };
    let instead = |play: fn(Asked)| -> Trick {
        Arc::new(move |what, asked, _| {
            if what != wanted {
                return Some(asked);
            }
            play(asked);
            None
        })
    };
    let forged = Keypair::generate().unwrap().sign(TEA.as_bytes()).unwrap();
    let tricks = [
        (
            "another hash",
            changed("content_hash", json!("00".repeat(32))),
            "content hash",
        ),
        (
            "no hash",
            changed("content_hash", json!(null)),
            "content hash",
        ),
        (
            "another text",
            changed("content", json!("# Poison")),
            "content hash",
        ),
        (
            "another skill",
            changed("skill_id", json!("coffee")),
            "asked for `tea`",
        ),
        (
            "another signature",
            changed("depositor_signature", json!(forged)),
            "depositor's signature",
        ),
        (
            "no author",
            changed("depositor_id", json!(7)),
            "who left it",
        ),
        (
            "an executable",
            changed("format", json!("ruby")),
            "Format 'ruby'",
        ),
        ("a redirect", instead(redirected), "redirects"),
        ("no object", instead(nonsense), "not a JSON object"),
        ("silence", instead(Asked::wait), "did not answer"),
        ("no end", instead(endless), "larger than"),
    ];
    let current: Arc<Mutex<Trick>> = Arc::new(Mutex::new(Arc::new(|_, asked, _| Some(asked))));
    let playing = Arc::clone(&current);
    let fake = FakePlace::start(move |what, asked, author| {
        let trick = Arc::clone(&*playing.lock().unwrap());
        trick(what, asked, author)
    });
    let home = fake.joined();
    for (name, trick, said) in tricks {
        *current.lock().unwrap() = trick;
        let begun = Instant::now();
        let error = acquire(&home).failed(1);
        assert!(error.contains(said), "{name}: no `{said}` in\n{error}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}");
        assert_eq!(
            home.json(["quarantine", "list"])["waiting"],
            json!([]),
            "{name}"
        );
    }
    // All of that was the trick's doing.
    *current.lock().unwrap() = Arc::new(|_, asked, _| Some(asked));
    acquire(&home).done();
}

fn redirected(mut asked: Asked) {
    let head = "HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n";
    asked.send(head);
}

fn nonsense(mut asked: Asked) {
    asked.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]");
}

fn endless(mut asked: Asked) {
    let mut open = asked.send("HTTP/1.1 200 OK\r\n\r\n");
    let piece = vec![b' '; 1 << 20];
    while open {
        open = asked.send(&piece);
    }
}

#[test]
fn a_place_that_refuses_every_session_is_asked_once_more_and_no_further() {
    let asked_for = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked_for);
    let fake = FakePlace::start(move |what, asked, _| match what {
        "GET /place/v1/board/browse" => {
            count.fetch_add(1, Ordering::SeqCst);
            let body = json!({"error": "invalid_or_expired_token", "message": "no"});
            asked.answer(401, body.to_string());
            None
        }
        _ => Some(asked),
    });
    let home = fake.joined();
    let error = home.run(["place", "browse"]).failed(1);
    assert!(error.contains("401"), "{error}");
    assert_eq!(asked_for.load(Ordering::SeqCst), 2);
}

#[test]
fn a_place_that_is_busy_is_left_alone_as_long_as_it_asks() {
    let beats = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&beats);
    let fake = FakePlace::start(move |what, mut asked, _| match what {
        "POST /place/v1/heartbeat" => {
            count.fetch_add(1, Ordering::SeqCst);
            let body = "{\"error\":\"rate_limited\",\"message\":\"later\"}";
            asked.send(format!(
                "HTTP/1.1 429 X\r\nretry-after: 600\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
            None
        }
        _ => Some(asked),
    });
    let home = fake.joined();
    let lives = awake(&home);
    eventually("it is asked", || {
        (beats.load(Ordering::SeqCst) > 0).then_some(())
    });
    eventually("it says so", || {
        lives.log().contains("not as it should be").then_some(())
    });
    let trouble = eventually("it is written down", || {
        let places = home.json(["place", "list"]);
        places[0]["trouble"].as_str().map(str::to_owned)
    });
    assert!(trouble.contains("rate_limited"), "{trouble}");
    assert_eq!(
        beats.load(Ordering::SeqCst),
        1,
        "beats come every second where nobody says to wait"
    );
}
