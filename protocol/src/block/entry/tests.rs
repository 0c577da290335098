use super::*;

fn hash(text: &str) -> ContentHash {
    ContentHash::of(text)
}

fn at() -> Timestamp {
    Timestamp::parse("2026-01-20T10:30:00.987Z").unwrap()
}

#[test]
fn writes_a_knowledge_update_as_the_reference_does() {
    let next = "c8d77909b4e454390c0956cd0921e32f5980d30dc81998e475c6e816cff77305";
    let entry = KnowledgeUpdate::new(
        "demo_note",
        KnowledgeAction::Create,
        (None, Some(next.parse().unwrap())),
        None,
        at(),
    );
    // The entry of block 1 in the reference's sample ledger.
    assert_eq!(
        Entry::KnowledgeUpdate(entry).to_text(),
        format!(
            r#"{{"type":"knowledge_update","layer":"L1","knowledge_id":"demo_note","action":"create","prev_hash":null,"next_hash":"{next}","reason":"Create knowledge: demo_note","timestamp":"2026-01-20T10:30:00+00:00"}}"#
        )
    );
}

#[test]
fn writes_a_skillset_event_with_file_hashes_only_where_they_are_given() {
    let mut event = SkillSetEvent {
        layer: "L1".to_owned(),
        skillset_name: "kp".to_owned(),
        skillset_version: "1.0.0".to_owned(),
        action: SkillSetAction::InstallFromArchive,
        content_hash: hash("kp"),
        reason: None,
        timestamp: at(),
        file_hashes: None,
    };
    let head = format!(
        r#"{{"type":"skillset_event","layer":"L1","skillset_name":"kp","skillset_version":"1.0.0","action":"install_from_archive","content_hash":"{}","reason":null,"timestamp":"2026-01-20T10:30:00+00:00""#,
        hash("kp")
    );
    assert_eq!(
        Entry::SkillSetEvent(event.clone()).to_text(),
        format!("{head}}}")
    );
    event.file_hashes = Some([("b".into(), hash("b")), ("a".into(), hash("a"))].into());
    let tail = format!(
        r#","file_hashes":{{"a":"{}","b":"{}"}}}}"#,
        hash("a"),
        hash("b")
    );
    assert_eq!(Entry::SkillSetEvent(event).to_text(), head + &tail);
}

#[test]
fn writes_provenance_of_skills_and_skillsets_in_order() {
    let skill = SkillProvenance {
        skill_name: "demo".to_owned(),
        original_hash: hash("o"),
        content_hash: hash("c"),
        received_from: "agent-a".to_owned(),
        received_at: at(),
        provenance_chain: vec!["agent-a".to_owned()],
        origin: Some("agent-a".to_owned()),
        hop_count: 0,
        stored_path: "knowledge/received/demo_20260120_103000.md".to_owned(),
        recorded_at: at(),
    };
    let text = Entry::SkillProvenance(skill.clone()).to_text();
    assert_eq!(
        text,
        format!(
            r#"{{"_type":"skill_provenance","skill_name":"demo","original_hash":"{}","content_hash":"{}","received_from":"agent-a","received_at":"2026-01-20T10:30:00Z","provenance_chain":["agent-a"],"origin":"agent-a","hop_count":0,"stored_path":"knowledge/received/demo_20260120_103000.md","recorded_at":"2026-01-20T10:30:00Z"}}"#,
            hash("o"),
            hash("c")
        )
    );
    let set = SkillSetProvenance {
        skillset_name: "kp".to_owned(),
        version: "1.0.0".to_owned(),
        content_hash: hash("c"),
        received_from: skill.received_from,
        received_at: at(),
        provenance_chain: vec![],
        origin: None,
        hop_count: 2,
        recorded_at: at(),
    };
    assert_eq!(
        Entry::SkillSetProvenance(set).to_text(),
        format!(
            r#"{{"_type":"skillset_provenance","skillset_name":"kp","version":"1.0.0","content_hash":"{}","received_from":"agent-a","received_at":"2026-01-20T10:30:00Z","provenance_chain":[],"origin":null,"hop_count":2,"recorded_at":"2026-01-20T10:30:00Z"}}"#,
            hash("c")
        )
    );
}

#[test]
fn free_text_stays_as_it_is() {
    for text in [
        "",
        "plain log line",
        "[1,2]",
        "a {\"type\":\"x\"}",
        "/etc/motd",
    ] {
        assert_eq!(Entry::Text(text.to_owned()).to_text(), text);
    }
}

#[test]
fn free_text_cannot_pose_as_a_typed_entry() {
    for text in [
        r#"{"type":"state_commit"}"#,
        " \n\t{\"_type\":\"skill_provenance\"}",
        "\u{feff}{}",
        "/* x */{\"type\":\"state_commit\"}",
        "// x\n{\"type\":\"state_commit\"}",
        "\0{broken",
    ] {
        let wrapped = Entry::Text(text.to_owned()).to_text();
        let object: serde_json::Value = serde_json::from_str(&wrapped).unwrap();
        assert_eq!(object["type"], "chain_record");
        assert_eq!(object["text"], text);
    }
}

#[test]
fn writes_transitions_without_a_type() {
    let skill = SkillTransition::new("core_safety", ("a", "b"), Some("v.rb".to_owned()), at());
    let (a, b, ab) = (hash("a"), hash("b"), hash("ab"));
    assert_eq!(
        Entry::SkillTransition(skill).to_text(),
        format!(
            r#"{{"skill_id":"core_safety","prev_ast_hash":"{a}","next_ast_hash":"{b}","diff_hash":"{ab}","actor":"AI","agent_id":"Kairos","timestamp":"2026-01-20T10:30:00+00:00","reason_ref":"v.rb"}}"#
        )
    );
    let created = (None, Some(b));
    let update = InstructionsUpdate::new("user", InstructionsAction::Create, created, "why", at());
    assert_eq!(update.mode(), "user");
    let diff = hash(&b.to_hex());
    assert_eq!(
        Entry::InstructionsUpdate(update).to_text(),
        format!(
            r#"{{"skill_id":"instructions:user","prev_ast_hash":"nil","next_ast_hash":"{b}","diff_hash":"{diff}","actor":"AI","agent_id":"Kairos","timestamp":"2026-01-20T10:30:00+00:00","reason_ref":"create_instructions: why"}}"#
        )
    );
}

fn state_commit() -> StateCommit {
    StateCommit {
        commit_type: CommitType::Explicit,
        actor: CommitActor::Human,
        prev_snapshot_hash: None,
        next_snapshot_hash: hash("n"),
        snapshot_ref: "snapshots/s.json".to_owned(),
        summary: StateSummary {
            l0_changed: true,
            total_changes: 1,
            ..StateSummary::default()
        },
        reason: Some("first".to_owned()),
        timestamp: at(),
        content_hash: None,
    }
}

fn formalization() -> FormalizationDecision {
    FormalizationDecision {
        skill_id: "s".to_owned(),
        skill_version: Some("1.0".to_owned()),
        source_text: None,
        source_span: None,
        result: FormalizationResult::NotFormalized,
        rationale: None,
        formalization_category: None,
        ambiguity_before: None,
        ambiguity_after: None,
        decided_by: None,
        model: None,
        timestamp: at(),
        confidence: Some(0.5),
        decompile_text: None,
        source_decompile_divergence: None,
    }
}

fn upgrade() -> SystemUpgrade {
    SystemUpgrade {
        from_version: "unknown".to_owned(),
        to_version: "2.2.0".to_owned(),
        actions: UpgradeActions {
            merged: vec!["skills/config.yml".to_owned()],
            ..UpgradeActions::default()
        },
        timestamp: at(),
    }
}

#[test]
fn writes_governance_in_the_order_of_the_reference() {
    let next = hash("n");
    assert_eq!(
        Entry::StateCommit(state_commit()).to_text(),
        format!(
            r#"{{"type":"state_commit","commit_type":"explicit","actor":"human","prev_snapshot_hash":null,"next_snapshot_hash":"{next}","snapshot_ref":"snapshots/s.json","summary":{{"L0_changed":true,"L1_added":0,"L1_modified":0,"L1_deleted":0,"L2_sessions_added":0,"L2_sessions_deleted":0,"promotions":0,"demotions":0,"total_changes":1}},"reason":"first","timestamp":"2026-01-20T10:30:00+00:00"}}"#
        )
    );
    assert_eq!(
        Entry::FormalizationDecision(Box::new(formalization())).to_text(),
        r#"{"type":"formalization_decision","skill_id":"s","skill_version":"1.0","source_text":null,"source_span":null,"result":"not_formalized","rationale":null,"formalization_category":null,"ambiguity_before":null,"ambiguity_after":null,"decided_by":null,"model":null,"timestamp":"2026-01-20T10:30:00+00:00","confidence":0.5,"decompile_text":null,"source_decompile_divergence":null}"#
    );
    assert_eq!(
        Entry::SystemUpgrade(upgrade()).to_text(),
        r#"{"type":"system_upgrade","from_version":"unknown","to_version":"2.2.0","actions":{"auto_updated":[],"merged":["skills/config.yml"],"l0_proposed":[],"skipped":[],"unchanged":[],"knowledge_installed":[],"knowledge_updated":[],"knowledge_kept":[],"knowledge_conflict":[]},"timestamp":"2026-01-20T10:30:00Z"}"#
    );
}

#[test]
fn every_kind_reads_back_as_written() {
    let second = Timestamp::parse("2026-01-20T10:30:00Z").unwrap();
    let hashes = (Some(hash("p")), None);
    let instructions = InstructionsUpdate::new("m", InstructionsAction::Delete, hashes, "", second);
    let mut state = state_commit();
    state.timestamp = second;
    let mut formal = formalization();
    formal.timestamp = second;
    let mut upgrade = upgrade();
    upgrade.timestamp = second;
    let entries = [
        Entry::KnowledgeUpdate(KnowledgeUpdate::new(
            "k",
            KnowledgeAction::Archive,
            (Some(hash("p")), None),
            None,
            second,
        )),
        Entry::SkillSetEvent(SkillSetEvent {
            layer: "L0".to_owned(),
            skillset_name: "kp".to_owned(),
            skillset_version: "1.0.0".to_owned(),
            action: SkillSetAction::ReinstallFromArchive,
            content_hash: hash("kp"),
            reason: None,
            timestamp: second,
            file_hashes: Some([("a".to_owned(), hash("a"))].into()),
        }),
        Entry::SkillTransition(SkillTransition::new("s", ("a", "b"), None, second)),
        Entry::InstructionsUpdate(instructions),
        Entry::StateCommit(state),
        Entry::FormalizationDecision(Box::new(formal)),
        Entry::SystemUpgrade(upgrade),
        Entry::ApprovalDecision(ApprovalDecision {
            approval_id: "p000000000000".to_owned(),
            decision: Decided::Void,
            change: "law".to_owned(),
            subject: "kairos.rb".to_owned(),
            proposed_by: "bo".to_owned(),
            decided_by: "ada".to_owned(),
            seal: hash("s"),
            files: vec![FileChange {
                path: "skills/kairos.rb".to_owned(),
                before: None,
                after: Some(hash("a")),
            }],
            reason: None,
            timestamp: second,
        }),
        Entry::Interaction(Interaction {
            message_type: Some("introduce".to_owned()),
            timestamp: second,
            peer_id: "p".to_owned(),
            direction: None,
            message_id: None,
            action: None,
            metadata: Some(serde_json::json!({"a": 1})),
        }),
        Entry::InteractionSession(InteractionSession {
            session_id: "s".to_owned(),
            peer_id: "p".to_owned(),
            started_at: second,
            ended_at: second,
            message_count: 3,
            messages_hash: None,
        }),
        Entry::Text("plain".to_owned()),
        Entry::Text("{\"type\":\"state_commit\"}".to_owned()),
    ];
    for entry in entries {
        assert_eq!(
            Entry::read(&entry.to_text()),
            Ok(entry.clone()),
            "{}",
            entry.kind()
        );
    }
}

#[test]
fn reads_what_others_wrote_and_tells_what_it_does_not_know() {
    let sample = r#"{"type":"knowledge_update","layer":"L1","knowledge_id":"n","action":"create","prev_hash":null,"reason":"r","timestamp":"2026-01-20T19:30:00+09:00","more":1}"#;
    let Ok(Entry::KnowledgeUpdate(update)) = Entry::read(sample) else {
        panic!("not read");
    };
    assert_eq!(
        (update.next_hash, update.timestamp),
        (None, at().minus(at().since(update.timestamp)))
    );
    for (text, kind, name) in [
        ("{}", None, ""),
        (r#"{"skill_id":"x"}"#, None, ""),
        (r#"{"type":7}"#, None, ""),
        (
            r#"{"type":"skill_evolution","x":1}"#,
            None,
            "skill_evolution",
        ),
        (
            r#"{"type":"skill_transition","skill_id":"s","next_ast_hash":null}"#,
            None,
            "skill_transition",
        ),
        (
            r#"{"_type":"philosophy","type":"state_commit"}"#,
            None,
            "philosophy",
        ),
        (
            r#"{"type":"state_commit"}"#,
            Some(Kind::StateCommit),
            "state_commit",
        ),
        (
            r#"{"skill_id":"s","next_ast_hash":"x"}"#,
            Some(Kind::SkillTransition),
            "skill_transition",
        ),
        (
            r#"{"type":"chain_record","text":[]}"#,
            Some(Kind::Text),
            "chain_record",
        ),
    ] {
        let unread = Unread {
            kind,
            name: name.to_owned(),
        };
        assert_eq!(Entry::read(text), Err(unread), "{text}");
    }
    for text in ["", "plain", "[1]", "7", "{broken"] {
        assert_eq!(Entry::read(text), Ok(Entry::Text(text.to_owned())));
    }
}
