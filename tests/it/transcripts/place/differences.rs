//! Every difference from a Meeting Place of the reference that is meant, and what cannot be replayed.

use crate::transcripts::table::{BOTH, Difference, HEAD, SEED, Seen, Skip, differences};

pub(in crate::transcripts) const SKIPPED: &[Skip] = &[
    Skip {
        on: BOTH,
        cases: &["tool_*", "after_tool_start"],
        why: "MCP is not served yet, and the recorded call started a Place by it",
    },
    Skip {
        on: HEAD,
        cases: &["attest_ok", "attest_duplicate", "preview_with_attestation"],
        why: "what the recorded attester signed is not what it said, so it is refused",
    },
    Skip {
        on: HEAD,
        cases: &["public_web*"],
        why: "there are no pages for people who are no agents",
    },
    Skip {
        on: BOTH,
        cases: &["registry_file"],
        why: "the registry is in a database of our own",
    },
];

differences! {
    // What anybody may know.

    "peers look at `status` alone, and what is said about MCP would not be true" on BOTH {
        ["health"] "transport": r#""streamable-http""# => "absent";
        ["health"] "tokens_configured": "true" => "absent";
    }

    "whoever watches learns at once whether every part works" on BOTH {
        ["health"] "ready": "absent" => "true";
    }

    "our versions are our own" on BOTH {
        ["health"] "version": "*" => "*";
    }

    "head's members are told to the seed as well" on SEED {
        ["health"] "tls": "absent" => "false";
        ["health"] "place_started": "absent" => "true";
        ["info*"] "version": r#""0.1.0""# => r#""0.2.0""#;
        ["info*"] "place_id": "absent" => r#""*""#;
        ["info*"] "deposit_limits": "absent" => "{*}";
        ["info*"] "session_rate_limit_per_minute": "absent" => "100";
        ["browse *"] "place_trust": "absent" => r#"{"uptime_seconds":*}"#;
        ["browse *"] "entries[].type": "absent" => r#""agent""#;
        ["browse *"] "entries[].deposit_count": "absent" => "0";
        ["browse *"] "entries[].description": "absent" => r#""*""#;
        ["browse *"] "entries[].scope": "absent" => r#""*""#;
        ["agents*"] "agents[].description": "absent" => r#""*""#;
        ["agents*"] "agents[].scope": "absent" => r#""*""#;
    }

    "attestations and SkillSets are bounded too, and their bounds are told" on HEAD {
        ["info*"] "deposit_limits.max_attestations_per_deposit": "absent" => "50";
        ["info*"] "deposit_limits.max_attestations_per_agent": "absent" => "200";
        ["info*"] "deposit_limits.max_skillsets_per_agent": "absent" => "10";
        ["info*"] "deposit_limits.max_total_skillsets": "absent" => "10000";
        ["info*"] "deposit_limits.max_total_archive_bytes": "absent" => "104857600";
        ["info*"] "deposit_limits.max_archive_size_bytes": "absent" => "5242880";
        ["info*"] "deposit_limits.max_archive_expanded_bytes": "absent" => "52428800";
        ["info*"] "deposit_limits.max_archive_entries": "absent" => "2000";
    }

    "the guide names every tool that has an endpoint here" on HEAD {
        ["welcome"] "available_tools": "[*]" => "[*]";
    }

    "times are told to the second, as everywhere else at a Place" on HEAD {
        ["skillset_get *"] "entries[].deposited_at": "*" => "*";
    }

    "an archive that is handed out says what was checked and who left it" on HEAD {
        ["skillset_get *"] "trust_notice.content_hash_verified": "absent" => "true";
        ["skillset_get *"] "trust_notice.depositor_id": "absent" => r#""*""#;
    }

    "the Place says of itself what any agent may" on HEAD {
        ["browse *"] "entries[].description": "absent" => r#""Genomics knowledge agent""#;
        ["browse *"] "entries[].scope": "absent" => r#""bioinformatics""#;
        ["agents", "agents_with_filters"]
            "agents[].description": "absent" => r#""Genomics knowledge agent""#;
        ["agents", "agents_with_filters"] "agents[].scope": "absent" => r#""bioinformatics""#;
    }

    "agents learn when they fade, and what changes need" on BOTH {
        ["info*"] "fades_after_seconds": "absent" => "3600";
        ["info*"] "write_strength": "absent" => r#""introduced""#;
        ["info*"] "agent_limits": "absent" => "*";
        ["info*"] "quotas": "absent" => "*";
    }

    "our guide is our own" on HEAD {
        ["welcome"] "guide": "*" => "*";
    }

    "the Place can do all that the agent can that hosts it" on BOTH {
        ["browse *"]
            "entries[].capabilities":
            r#"["introduce","offer_skill","request_skill","accept","decline","reflect"]"# =>
            r#"["introduce","goodbye","error",*]"#;
        ["agents*"]
            "agents[].capabilities.supported_actions":
            r#"["introduce","offer_skill","request_skill","accept","decline","reflect"]"# =>
            r#"["introduce","goodbye","error",*]"#;
        ["agents*"] "agents[].capabilities.extensions": "absent" => "[*]";
    }

    // Registrations.

    "an agent learns how strong its session is and how long it lasts" on BOTH {
        ["register_*", "introduce_after_restart"] "session_strength": "absent" => r#""introduced""#;
        ["register_*", "introduce_after_restart"] "session_expires_in": "absent" => "3600";
    }

    "an agent that is not believed learns why" on BOTH {
        ["register_unsigned", "register_unsigned_caps_list", "register_only_id", "fill_*"]
            "reason": "absent" => r#""there is no identity object""#;
        ["register_tampered"] "reason": "absent" => r#""identity_signature: the signature does not match""#;
        ["register_bad_key"] "reason": "absent" => r#""public_key: the key is not in PEM form""#;
        ["register_no_key_field"] "reason": "absent" => r#""there is no public_key""#;
    }

    "an identity that is none is not believed, as others are not" on SEED {
        ["register_identity_string"] "reason": "absent" => r#""there is no identity object""#;
    }

    "an identity that is none is not believed, as others are not; the reference breaks on it" on HEAD {
        ["register_identity_string"] "status": "500 internal_error" => "200";
        ["browse *"] "entries[]": "absent" => "S";
        ["agents*"] "agents[]": "absent" => "S";
    }

    "a tool of the reference calls the member by another name" on BOTH {
        ["register_agent_id_instead_of_id"] "status": "400 missing_id" => "200";
        ["agents*"] "agents[]": "absent" => "x";
    }

    "a body that cannot be read is refused, not taken for an empty one" on BOTH {
        ["register_invalid_json"] "error": r#""missing_id""# => r#""invalid_json""#;
        ["register_invalid_json"]
            "message":
            r#""Agent id is required""# => r#""The request body is refused: the text is not JSON: *""#;
        ["unregister_invalid_json"] "error": r#""missing_agent_id""# => r#""invalid_json""#;
        ["unregister_invalid_json"]
            "message":
            r#""agent_id is required""# => r#""The request body is refused: the text is not JSON: *""#;
    }

    "a body or member of another kind is the caller's mistake, not ours" on BOTH {
        ["register_array"] "status": "500 internal_error" => "400 invalid_body";
    }

    "a body or member of another kind is the caller's mistake, not ours, deposits included" on HEAD {
        ["deposit_number_id"] "status": "500 internal_error" => "400 invalid_param";
    }

    "an id is a text that is not blank, so that it can be pinned to a key" on BOTH {
        ["register_empty_id", "register_number_id", "register_object_id"]
            "status": "200" => "400 invalid_param";
        ["agents*"] "agents[]": "Unknown Agent" => "absent";
        ["agents*"] "agents[]": "seven" => "absent";
        ["agents*"] "agents[]": "obj" => "absent";
    }

    "whoever signs is who it says it is" on BOTH {
        ["register_id_differs_from_identity"] "status": "200" => "403 identity_mismatch";
        ["browse *"] "entries[]": "Other" => "absent";
        ["agents*"] "agents[]": "Other" => "absent";
    }

    "an id is pinned to the first key that it came with" on BOTH {
        ["register_takeover_unsigned"] "status": "200" => "403 signature_required";
        ["register_takeover_signed_other_key"] "status": "200" => "409 identity_conflict";
        ["key_after_takeover"] "public_key": "*" => "*";
    }

    "who was refused is not counted, and who is known by another name is" on SEED {
        ["info_after"] "registered_agents": "15" => "12";
        ["agents", "agents_with_filters"] "count": "15" => "12";
        ["agents_without_self"] "count": "14" => "11";
        ["agents_after"] "count": "13" => "12";
        ["browse *"] "total_available": "10" => "9";
        ["browse *"] "returned": "10" => "9";
        ["browse *"] "agents_contributing": "10" => "9";
    }

    "who was refused is not counted, and who is known by another name is" on HEAD {
        ["info_after"] "registered_agents": "14" => "12";
        ["agents", "agents_with_filters"] "count": "14" => "12";
        ["agents_without_self"] "count": "13" => "11";
    }

    // Keys.

    "the key's fingerprint saves its reader a computation" on BOTH {
        ["old_token_still_valid", "key", "key_after_takeover"] "fingerprint": "absent" => "*";
    }

    "the Place has a key of its own, in the recording another one" on SEED {
        ["key_self"] "public_key": "*" => "*";
        ["key_self"] "fingerprint": "absent" => "*";
    }

    "keys outlive a restart" on BOTH {
        ["key_after_restart"] "status": "404 not_found" => "200";
    }

    // The board.

    "a limit below zero is none" on BOTH {
        ["browse /place/v1/board/browse?limit=-1"] "status": "500 internal_error" => "200";
    }

    "tags are looked at, as head does" on SEED {
        ["browse /place/v1/board/browse?tags=x"] "entries[]": "*" => "absent";
        ["browse /place/v1/board/browse?tags=x"] "total_available": "10" => "0";
        ["browse /place/v1/board/browse?tags=x"] "returned": "10" => "0";
        ["browse /place/v1/board/browse?tags=x"] "agents_contributing": "10" => "0";
    }

    "there is a relay, and skills by value also on the paths of the prototype" on BOTH {
        ["relay_send"] "status": "404 not_found" => "400 missing_param";
        ["skills_content"]
            "message":
            r#""Unknown place endpoint: /place/v1/skills/content/x""# =>
            r#""No deposited skill found: x""#;
    }

    "nobody acts for another, and the Place is not removed" on BOTH {
        ["unregister_unknown", "unregister_somebody_else", "unregister_self_of_place"]
            "status": "200" => "403 not_yours";
        ["agents_after"] "agents[]": "absent" => "No Signature";
        ["agents_after"] "agents[]": "absent" => "Agent Alpha";
    }

    "nobody acts for another, in what it needs either" on HEAD {
        ["needs_for_somebody_else", "needs_delete"] "status": "200" => "403 not_yours";
        ["browse_needs"] "entries[]": "spoof" => "absent";
        ["browse_needs"] "total_available": "2" => "1";
        ["browse_needs"] "returned": "2" => "1";
        ["browse_needs"] "agents_contributing": "2" => "1";
        ["browse /place/v1/board/browse"] "entries[]": "absent" => "No Signature";
        ["browse /place/v1/board/browse"] "entries[]": "absent" => "Agent Alpha";
    }

    "the recorder's second agent came by MCP" on HEAD {
        ["browse /place/v1/board/browse"] "entries[]": "Agent Beta" => "absent";
        ["browse /place/v1/board/browse"] "total_available": "14" => "15";
        ["browse /place/v1/board/browse"] "returned": "14" => "15";
        ["browse /place/v1/board/browse"] "agents_contributing": "10" => "11";
    }

    "who is known by its key comes back to a full Place" on BOTH {
        ["register_again_when_full"] "status": "503 place_full" => "200";
    }

    "the one that came back had unregistered, and counts again" on SEED {
        ["info_full"] "registered_agents": "100" => "101";
    }

    "what the recorder registered unseen is not filled up" on HEAD {
        ["info_after_restart"] "registered_agents": "101" => "100";
    }

    // Deposits.

    "how often a skill was taken is nobody's business on a board without ranks" on HEAD {
        ["get /place/v1/preview/*"] "trust_metadata.exchange_count": "0" => "absent";
        ["get /place/v1/agent_profile/agent-0001"] "deposited_skills[].exchange_count": "*" => "absent";
    }

    "where a skill comes from is told where it is looked at, the board is short" on HEAD {
        ["browse *"] "entries[].trust_metadata": r#"{"exchange_count":*"# => "absent";
        ["browse *"] "entries[].input_output": r#"{"in":"x"}"# => "absent";
        ["get /place/v1/skill_content/*"] "trust_metadata": "absent" => r#"{"depositor_deposit_count":*"#;
    }

    "whoever takes a skill can check who signed it" on HEAD {
        ["get /place/v1/skill_content/*"] "depositor_signature": "absent" => "*";
    }

    "what the Place did not do is said in the same words everywhere" on HEAD {
        ["browse *"]
            "entries[].trust_notice.disclaimer":
            r#""Place verified format safety and depositor identity only.""# =>
            r#""Content deposited by agent. Place verified format safety and depositor identity only.""#;
        ["get /place/v1/skill_content/*"]
            "trust_notice.disclaimer":
            r#""Validate content before use. Place verified format safety and depositor identity only.""# =>
            r#""Content deposited by agent. Place verified format safety and depositor identity only.""#;
    }

    "a profile shows the cards of the board" on HEAD {
        ["get /place/v1/agent_profile/agent-0001"]
            "deposited_skills[] (order)":
            "skill_id,name,description,tags,summary,*" =>
            "name,skill_id,description,tags,size_bytes,*";
        ["get /place/v1/agent_profile/agent-0001"] "deposited_skills[].agent_id": "absent" => r#""agent-0001""#;
        ["get /place/v1/agent_profile/agent-0001"] "deposited_skills[].format": "absent" => "*";
        ["get /place/v1/agent_profile/agent-0001"]
            "deposited_skills[].type": "absent" => r#""deposited_skill""#;
        ["get /place/v1/agent_profile/agent-0001"] "deposited_skills[].trust_notice": "absent" => "{*}";
        ["get /place/v1/agent_profile/agent-0001"] "note": "*" => "*";
    }

    "a record that waits in memory is not made yet" on HEAD {
        ["skillset_withdraw"] "chain_recorded": "true" => r#""attempted""#;
    }

    "what the Place did with a SkillSet is said in words of our own" on HEAD {
        ["skillset_*"] "trust_notice.disclaimer": "*" => "*";
        ["skillset_withdraw"] "note": "*" => "*";
        ["skillset_withdraw_again"] "message": "*" => "*";
    }
}
