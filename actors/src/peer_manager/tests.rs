use std::net::IpAddr;

use kairos_protocol::crypto::Keypair;
use kairos_protocol::time::{ManualClock, Timestamp};
use kairos_protocol::wire::introduction::VerifiedIdentity;
use kairos_protocol::wire::possession::{Proof, Side};

use super::*;

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    own: Own,
    peer: Keypair,
}

impl Bench {
    fn new() -> Self {
        let own = Keypair::generate().unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000))),
            own: Own {
                agent_id: own.public().agent_id(),
                key: own.public().hash(),
            },
            peer: Keypair::generate().unwrap(),
        }
    }

    fn start(&self, policy: PeerPolicy) -> PeerManagerHandle {
        let path = self.folder.path().join("peers.jsonl");
        let old = self.folder.path().join("peers.json");
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        PeerManagerActor::start(
            &path,
            &old,
            self.own.clone(),
            policy,
            clock,
            8,
            Duration::from_secs(5),
        )
        .unwrap()
    }

    fn introduce(&self, id: &str, proof: Option<Proof>) -> Introduce {
        Introduce {
            identity: VerifiedIdentity {
                agent_id: id.parse().unwrap(),
                key: self.peer.public().clone(),
                name: "peer".into(),
                rotations: vec![],
            },
            proof,
            wants_challenge: true,
            address: IpAddr::from([127, 0, 0, 1]),
            replaces: None,
        }
    }
}

#[actix::test]
async fn an_answered_challenge_makes_a_proven_session_once() {
    let bench = Bench::new();
    let peers = bench.start(PeerPolicy::default());
    let first = peers.introduce(bench.introduce("a", None)).await.unwrap();
    assert_eq!(first.strength, Strength::Introduced);
    let (id, now) = ("a".parse().unwrap(), bench.clock.now());
    let proof = Proof::sign(
        Side::Guest,
        &bench.peer,
        &id,
        &bench.own.agent_id,
        &first.nonce.unwrap(),
        now,
    )
    .unwrap();
    let mut again = bench.introduce("a", Some(proof.clone()));
    again.replaces = Some(first.token.clone());
    let second = peers.introduce(again).await.unwrap();
    assert_eq!(second.strength, Strength::Proven);
    assert_eq!(
        peers.admit(&second.token).unwrap().strength,
        Strength::Proven
    );
    assert!(matches!(
        peers.admit(&first.token),
        Err(PeerError::Refused(Refusal::Unknown))
    ));
    let replayed = peers
        .introduce(bench.introduce("a", Some(proof)))
        .await
        .unwrap_err();
    assert!(
        matches!(replayed, PeerError::Proof(ProofError::Nonce)),
        "{replayed}"
    );
}

#[actix::test]
async fn what_a_host_signed_for_any_caller_opens_no_session_in_its_name() {
    let bench = Bench::new();
    let peers = bench.start(PeerPolicy::default());
    let challenged = peers.introduce(bench.introduce("a", None)).await.unwrap();
    let (id, now) = ("a".parse().unwrap(), bench.clock.now());
    let nonce = challenged.nonce.unwrap();
    let own = &bench.own.agent_id;
    let passed_on = Proof::sign(Side::Host, &bench.peer, &id, own, &nonce, now).unwrap();
    let refused = peers.introduce(bench.introduce("a", Some(passed_on))).await;
    assert!(
        matches!(refused, Err(PeerError::Proof(ProofError::Signature))),
        "{refused:?}"
    );
}

#[actix::test]
async fn a_pin_survives_a_restart_and_another_key_is_refused() {
    let bench = Bench::new();
    let peers = bench.start(PeerPolicy::default());
    peers.introduce(bench.introduce("a", None)).await.unwrap();
    peers.shutdown().await.unwrap();
    let peers = bench.start(PeerPolicy::default());
    let other = Keypair::generate().unwrap().public().clone();
    let mut claim = bench.introduce("a", None);
    claim.identity.key = other.clone();
    let refused = peers.introduce(claim).await.unwrap_err();
    assert!(matches!(
        refused,
        PeerError::Table(PeerTableError::Conflict { .. })
    ));
    let peer = peers
        .decide(Decide::Accept("a".into(), other.fingerprint()))
        .await
        .unwrap();
    assert_eq!(peer.key, other);
    peers.shutdown().await.unwrap();
    let peers = bench.start(PeerPolicy::default());
    assert_eq!(peers.list().await.unwrap()[0].key, other);
}

#[actix::test]
async fn our_own_identity_opens_no_session() {
    let bench = Bench::new();
    let peers = bench.start(PeerPolicy::default());
    let own_id = peers
        .introduce(bench.introduce(bench.own.agent_id.as_str(), None))
        .await;
    assert!(matches!(own_id, Err(PeerError::Own)));
}

#[actix::test]
async fn one_address_introduces_a_bounded_number_of_new_agents() {
    let bench = Bench::new();
    let peers = bench.start(PeerPolicy {
        new_peers_per_address: 2,
        ..PeerPolicy::default()
    });
    for id in ["a", "b"] {
        peers.introduce(bench.introduce(id, None)).await.unwrap();
    }
    let third = peers.introduce(bench.introduce("c", None)).await;
    assert!(matches!(third, Err(PeerError::TooManyNew { .. })));
    peers.introduce(bench.introduce("a", None)).await.unwrap();
    bench.clock.advance(Duration::from_secs(61));
    peers.introduce(bench.introduce("c", None)).await.unwrap();
}

#[actix::test]
async fn one_address_has_its_share_of_the_table() {
    let bench = Bench::new();
    let peers = bench.start(PeerPolicy {
        peers_per_address: 2,
        ..PeerPolicy::default()
    });
    for id in ["a", "b"] {
        peers.introduce(bench.introduce(id, None)).await.unwrap();
    }
    let third = peers.introduce(bench.introduce("c", None)).await;
    assert!(matches!(third, Err(PeerError::AddressShare { most: 2 })));
    let mut elsewhere = bench.introduce("c", None);
    elsewhere.address = "198.51.100.9".parse().unwrap();
    peers.introduce(elsewhere).await.unwrap();
    // The known may come from wherever they are, and whoever is forgotten makes room.
    peers.introduce(bench.introduce("c", None)).await.unwrap();
    peers.decide(Decide::Forget("a".into())).await.unwrap();
    peers.introduce(bench.introduce("d", None)).await.unwrap();
}

#[actix::test]
async fn a_decision_of_another_process_is_not_overwritten_before_it_is_seen() {
    let bench = Bench::new();
    let ours = bench.start(PeerPolicy::default());
    for id in ["a", "b"] {
        ours.introduce(bench.introduce(id, None)).await.unwrap();
    }
    let theirs = bench.start(PeerPolicy::default());
    theirs.decide(Decide::Trust("a".into())).await.unwrap();
    theirs.decide(Decide::Forget("b".into())).await.unwrap();
    let met = bench.introduce("a", None).identity;
    let url = "http://192.0.2.7".to_owned();
    ours.meet(met, url.clone(), Strength::Proven).await.unwrap();
    let again = bench.start(PeerPolicy::default()).list().await.unwrap();
    let [peer] = again.as_slice() else {
        panic!("{again:?}")
    };
    assert_eq!(
        (peer.id.as_str(), peer.trust, &peer.url),
        ("a", table::Trust::Trusted, &Some(url))
    );
}

#[actix::test]
async fn whoever_is_forgotten_elsewhere_is_out_as_soon_as_anything_is_written() {
    let bench = Bench::new();
    let ours = bench.start(PeerPolicy::default());
    let session = ours.introduce(bench.introduce("a", None)).await.unwrap();
    let theirs = bench.start(PeerPolicy::default());
    theirs.decide(Decide::Forget("a".into())).await.unwrap();
    let mut other = bench.introduce("b", None);
    other.identity.key = Keypair::generate().unwrap().public().clone();
    ours.introduce(other).await.unwrap();
    let refused = ours.admit(&session.token);
    assert!(matches!(refused, Err(PeerError::Refused(Refusal::Unknown))));
}

#[actix::test]
async fn the_log_stays_short_while_the_node_runs() {
    let bench = Bench::new();
    let peers = bench.start(PeerPolicy::default());
    let log = bench.folder.path().join("peers.jsonl");
    let lines = || std::fs::read_to_string(&log).unwrap().lines().count();
    for n in 0..300 {
        let met = bench.introduce("a", None).identity;
        let url = format!("http://192.0.2.7/{n}");
        peers.meet(met, url, Strength::Introduced).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(10), async {
        while lines() > 200 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the log is rewritten");
    let again = bench.start(PeerPolicy::default()).list().await.unwrap();
    assert_eq!(again, peers.list().await.unwrap());
}

#[actix::test]
async fn a_decision_of_another_process_is_seen_and_ends_sessions() {
    let bench = Bench::new();
    let [ours, theirs] = [(), ()].map(|()| bench.start(PeerPolicy::default()));
    let session = ours.introduce(bench.introduce("a", None)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), async {
        while theirs.list().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        theirs.decide(Decide::Forget("a".into())).await.unwrap();
        let gone = |answer| matches!(answer, Err(PeerError::Refused(Refusal::Unknown)));
        while !gone(ours.admit(&session.token)) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the other process's change is seen");
    assert!(ours.list().await.unwrap().is_empty());
}

#[actix::test]
async fn an_introduction_that_changes_nothing_opens_a_session_without_the_actor() {
    let bench = Bench::new();
    let peers = bench.start(PeerPolicy::default());
    let log = bench.folder.path().join("peers.jsonl");
    peers.introduce(bench.introduce("a", None)).await.unwrap();
    let written = std::fs::read(&log).unwrap();
    peers.shutdown().await.unwrap();
    let again = peers.introduce(bench.introduce("a", None)).await.unwrap();
    assert_eq!(peers.admit(&again.token).unwrap().agent_id.as_str(), "a");
    let stranger = peers.introduce(bench.introduce("b", None)).await;
    assert!(
        matches!(stranger, Err(PeerError::Ask(AskError::Stopped))),
        "{stranger:?}"
    );
    assert_eq!(std::fs::read(&log).unwrap(), written);
}
