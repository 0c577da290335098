use std::path::Path;

use kairos_protocol::time::ManualClock;

use super::*;

fn start(data: &Path) -> (AuthHandle, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_771_000_000)));
    let log = ActionLog::new(data);
    let auth = AuthActor::start(data, log, clock.clone(), 64, Duration::from_secs(60));
    (auth, clock)
}

fn issue(user: &str, role: Role, lifetime: &str) -> Issue {
    Issue {
        user: user.parse().unwrap(),
        role,
        lifetime: lifetime.parse().unwrap(),
        by: "local".to_owned(),
    }
}

fn of(user: &str) -> Which {
    Which::Of(user.parse().unwrap())
}

#[actix::test]
async fn a_token_is_issued_used_rotated_and_revoked() {
    let temp = tempfile::tempdir().unwrap();
    let (auth, clock) = start(temp.path());
    assert_eq!(auth.authenticate("kc_x").await.unwrap(), None);
    let (raw, token) = auth.issue(issue("bo", Role::Member, "90m")).await.unwrap();
    let who = auth.authenticate(raw.reveal()).await.unwrap().unwrap();
    assert_eq!((who.user.as_str(), who.role), ("bo", Role::Member));
    let by = || "local".to_owned();
    let rotate = || Rotate {
        which: of("bo"),
        by: by(),
    };
    let rotated = auth.rotate(rotate()).await.unwrap();
    assert_eq!(auth.authenticate(raw.reveal()).await.unwrap(), None);
    let fresh = rotated.raw.reveal();
    assert!(auth.authenticate(fresh).await.unwrap().is_some());
    clock.advance(Duration::from_secs(90 * 60 + 1));
    assert_eq!(auth.authenticate(fresh).await.unwrap(), None);
    let revoke = Revoke {
        which: of("bo"),
        by: by(),
    };
    assert_eq!(auth.revoke(revoke).await.unwrap().len(), 1);
    assert!(matches!(
        auth.rotate(rotate()).await,
        Err(AuthError::Token(TokenError::UnknownUser(_)))
    ));
    assert_eq!(auth.prune().await.unwrap(), 2);

    let told = ActionLog::new(temp.path()).newest(10).unwrap().records;
    let actions: Vec<_> = told.iter().map(|r| r["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "token_created",
            "token_rotated",
            "token_revoked",
            "tokens_pruned"
        ]
    );
    assert_eq!(told[0]["details"]["token_hash"], token.shown());
    let all = serde_json::to_string(&told).unwrap();
    assert!(!all.contains(raw.reveal()) && !all.contains(&token.hash.to_hex()));
}

#[actix::test]
async fn a_revocation_elsewhere_is_seen_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let ((ours, _), (theirs, _)) = (start(temp.path()), start(temp.path()));
    for round in 0..20 {
        let user = format!("u{round}");
        let (raw, _) = ours
            .issue(issue(&user, Role::Owner, "never"))
            .await
            .unwrap();
        assert!(theirs.authenticate(raw.reveal()).await.unwrap().is_some());
        assert!(ours.authenticate(raw.reveal()).await.unwrap().is_some());
        let revoke = Revoke {
            which: of(&user),
            by: "x".to_owned(),
        };
        theirs.revoke(revoke).await.unwrap();
        assert_eq!(ours.authenticate(raw.reveal()).await.unwrap(), None);
    }
    assert_eq!(ours.book().await.unwrap().tokens().count(), 20);
}

#[actix::test]
async fn while_the_file_cannot_be_read_nobody_is_let_in() {
    let temp = tempfile::tempdir().unwrap();
    let (auth, _) = start(temp.path());
    let (raw, _) = auth.issue(issue("ada", Role::Owner, "1d")).await.unwrap();
    let path = temp.path().join("storage/tokens.json");
    let whole = fs_err::read(&path).unwrap();
    fs_err::write(&path, "{").unwrap();
    let refused = auth.authenticate(raw.reveal()).await;
    assert!(matches!(refused, Err(AuthError::File(_))));
    let refused = auth.issue(issue("eve", Role::Owner, "1d")).await;
    assert!(matches!(refused, Err(AuthError::File(_))));
    assert_eq!(fs_err::read(&path).unwrap(), b"{");
    fs_err::write(&path, whole).unwrap();
    assert!(auth.authenticate(raw.reveal()).await.unwrap().is_some());
}

#[actix::test]
async fn stops_when_told() {
    let temp = tempfile::tempdir().unwrap();
    let (auth, _) = start(temp.path());
    auth.health().await.unwrap();
    auth.shutdown().await.unwrap();
    assert!(matches!(
        auth.health().await,
        Err(AuthError::Ask(AskError::Stopped))
    ));
}
