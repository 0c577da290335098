//! Every difference from the reference that is meant, each with its reason; and what cannot be replayed.
//!
//! What is compared with something of its own instead: times, tokens, keys and signatures (see [`super::compare`]), and
//! the hashes of what the reference ships, for which stand-ins are put (see [`super::stage`]).

use super::table::{BOTH, Difference, HEAD, SEED, Seen, Skip, differences};

pub(super) const SKIPPED: &[Skip] = &[
    Skip {
        on: BOTH,
        cases: &["mcp_*", "session_token_used_at_mcp"],
        why: "MCP is tried with clients of its own",
    },
    Skip {
        on: BOTH,
        cases: &["*_plain_ruby"],
        why: "the reference crashes there for want of two libraries, and later rows rest on that",
    },
    Skip {
        on: BOTH,
        cases: &["rate_limit_after_62s"],
        why: "nobody waits for a minute; the session table is tested with a clock that is set",
    },
];

differences! {
    // The server.

    "peers look at `status` alone, and what is said about MCP would not be true" on BOTH {
        ["health", "health_end"] "transport": r#""streamable-http""# => "absent";
        ["health", "health_end"] "tokens_configured": "true" => "absent";
    }

    "head's members are stated to the seed as well" on SEED {
        ["health", "health_end"] "tls": "absent" => "false";
        ["health", "health_end"] "place_started": "absent" => "false";
    }

    "whoever watches learns at once whether every part works" on BOTH {
        ["health", "health_end"] "ready": "absent" => "true";
    }

    "our versions are our own" on BOTH {
        ["health", "health_end"] "version": "*" => "*";
    }

    "who loses the way here is an agent that wants to meet" on BOTH {
        ["unknown_root", "root", "introduce_case", "introduce_double_slash"]
            "message":
            r#""Endpoint not found. Use POST /mcp for MCP requests.""# =>
            r#""Endpoint not found. Agents meet at /meeting/v1/introduce.""#;
    }

    "agents may meet from the first second" on SEED {
        ["introduce_before_first_mcp_call"] "status": "503 mmp_unavailable" => "200";
    }

    "settings are read when the node starts" on BOTH {
        ["skillset_exchange_disabled"] "status before a restart": "403" => "200";
        ["mmp_disabled"] "status before a restart": "503" => "200";
        ["mmp_enabled_again"] "status before a restart": "200" => "503";
    }

    // Request bodies.

    "a body that cannot be read is refused, not taken for an empty one" on BOTH {
        ["introduce_post_body_invalid_json", "introduce_post_body_nan", "introduce_post_body_bom",
         "introduce_post_body_trailing_garbage", "introduce_post_body_comment",
         "introduce_post_invalid_utf8", "introduce_post_deep_nesting", "request_skill_invalid_json",
         "reflect_invalid_json", "message_invalid_json"] "status": "200" => "400 invalid_json";
        ["skill_content_invalid_json", "skill_content_form_body", "skillset_content_invalid_json"]
            "error": r#""missing_param""# => r#""invalid_json""#;
        ["skill_content_invalid_json", "skill_content_form_body", "skillset_content_invalid_json"]
            "message": r#""* is required""# => r#""The request body is refused: the text is not JSON: *""#;
    }

    "a body of another kind is the caller's mistake, not ours" on BOTH {
        ["introduce_post_body_array", "introduce_post_body_string", "introduce_post_body_number",
         "introduce_post_body_null", "skill_content_array_body", "skill_content_string_body",
         "request_skill_array", "message_array"] "status": "500 internal_error" => "400 invalid_body";
    }

    "a member of another kind is the caller's mistake, not ours, and names nothing that could be missing" on BOTH {
        ["message_payload_string", "message_payload_array"]
            "status": "500 internal_error" => "400 invalid_param";
        ["skill_content_number", "skill_content_object", "skillset_content_number"]
            "status": "404 not_found" => "400 invalid_param";
    }

    "bodies and ids are bounded" on BOTH {
        ["introduce_post_5MB", "skill_content_oversize_request_5MB"]
            "status": "200" => "413 payload_too_large";
        ["skill_content_oversize_skill_id"] "status": "404 not_found" => "400 invalid_param";
    }

    // Introductions, ours.

    "others keep what our ledger is, so that we cannot change its past; peers ignore the member" on BOTH {
        ["introduce_with_skillsets"] "ledger": "absent" => "*";
    }

    "sorted, an identity verifies with every version of the reference's JSON library" on BOTH {
        ["introduce_*"]
            "identity (order)":
            "name,description,scope,version,instance_id" =>
            "description,instance_id,name,scope,version";
        ["introduce_post_*", "canon_*"]
            "peer_identity.identity (order)":
            "name,description,scope,version,instance_id" =>
            "description,instance_id,name,scope,version";
    }

    "we speak head's set of messages" on SEED {
        ["introduce_*"] "identity.version": r#""1.0.0""# => r#""1.1.0""#;
        ["introduce_post_*", "canon_*"] "peer_identity.identity.version": r#""1.0.0""# => r#""1.1.0""#;
    }

    "an answer holds the introduction that everyone gets, with all that we can do" on BOTH {
        ["introduce_post_*", "canon_*"]
            "peer_identity.capabilities.supported_actions":
            r#"["introduce","offer_skill","request_skill","accept","decline","reflect"]"# =>
            r#"["introduce","goodbye","error","offer_skill","request_skill","accept","decline","reflect",*]"#;
        ["introduce_post_*", "canon_*"]
            "peer_identity.capabilities.extensions":
            "absent" =>
            r#"[{"name":"meeting_protocol_skillset_exchange",*}]"#;
    }

    "attestations are an extension that the recorded head had installed and we do not have" on HEAD {
        ["introduce_*"]
            "capabilities.supported_actions":
            r#"[*"list_skillsets","attestation_request",*,"challenge_respond"]"# =>
            r#"[*"list_skillsets"]"#;
        ["message_offer_skillset", "message_list_skillsets"]
            "available_actions":
            r#"[*"list_skillsets","attestation_request",*,"challenge_respond"]"# =>
            r#"[*"list_skillsets"]"#;
        ["message_attestation_request"] "status": r#""received""# => r#""error""#;
        ["message_attestation_request"] "action": r#""attestation_request""# => "absent";
        ["message_attestation_request"] "from": r#""f00dfeed00000001""# => "absent";
        ["message_attestation_request"]
            "message":
            r#""Attestation request received. Process via attestation tools.""# =>
            r#""Unknown action: attestation_request""#;
    }

    "we say how many requests a minute are allowed; the reference says 10 and allows 100" on BOTH {
        ["introduce_*"] "constraints.rate_limit_per_minute": "10" => "100";
        ["introduce_post_*", "canon_*"] "peer_identity.constraints.rate_limit_per_minute": "10" => "100";
    }

    "no local path ever leaves" on BOTH {
        ["introduce_*"] "skills[].path": r#""$DATA/*.md""# => "absent";
        ["introduce_post_*", "canon_*"] "peer_identity.skills[].path": r#""$DATA/*.md""# => "absent";
    }

    // Introductions of peers.

    "a peer learns how strong its session is and how long it lasts" on BOTH {
        ["introduce_post_*", "canon_*"] "session_strength": "absent" => r#""introduced""#;
        ["introduce_post_*", "canon_*"] "session_expires_in": "absent" => "3600";
    }

    "a peer that is not believed learns why" on BOTH {
        ["introduce_post_envelope", "introduce_post_body_empty", "introduce_post_body_empty_object",
         "introduce_post_body_identity_null"] "reason": "absent" => r#""there is no identity object""#;
        ["introduce_post_unsigned"] "reason": "absent" => r#""there is no public_key""#;
        ["introduce_post_tampered_identity", "introduce_post_short_signature",
         "introduce_post_other_public_key", "introduce_post_sha1_signature",
         "canon_sent_pretty_signed_pretty", "canon_unicode_escaped_sent_escaped_signed"]
            "reason": "absent" => r#""identity_signature: the signature does not match""#;
        ["introduce_post_signature_not_base64", "introduce_post_urlsafe_b64",
         "introduce_post_b64_with_newlines"]
            "reason": "absent" => r#""identity_signature: the signature is not strict base64""#;
        ["introduce_post_bad_public_key"] "reason": "absent" => r#""public_key: the key is not in PEM form""#;
        ["introduce_post_ec_key"] "reason": "absent" => r#""public_key: the key is not a readable RSA key""#;
        ["introduce_post_nesting_99"]
            "reason": "absent" => r#""identity.instance_id is missing or not a string""#;
    }

    "an identity that is none is not believed, as others are not; the reference breaks on it" on BOTH {
        ["introduce_post_body_identity_string", "introduce_post_body_identity_array"]
            "status": "500 internal_error" => "200";
    }

    "small keys can be forged" on BOTH {
        ["introduce_post_rsa1024"] "identity_verified": "true" => "false";
        ["introduce_post_rsa1024"] "session_token": "*" => "absent";
        ["introduce_post_rsa1024"]
            "reason": "absent" => r#""public_key: the RSA key has 1024 bits; 2048 to 8192 are accepted""#;
    }

    "an id is a text that is not blank, so that it can be pinned to a key" on BOTH {
        ["introduce_post_signed_no_instance_id", "introduce_post_signed_empty_instance_id",
         "introduce_post_signed_numeric_instance_id"] "identity_verified": "true" => "false";
        ["introduce_post_signed_empty_instance_id", "introduce_post_signed_numeric_instance_id"]
            "session_token": "*" => "absent";
        ["introduce_post_signed_no_instance_id", "introduce_post_signed_numeric_instance_id"]
            "reason": "absent" => r#""identity.instance_id is missing or not a string""#;
        ["introduce_post_signed_empty_instance_id"]
            "reason": "absent" => r#""identity.instance_id: agent id is blank""#;
    }

    "an id is pinned to the first key that it came with" on BOTH {
        ["introduce_post_rsa4096", "introduce_post_same_id_other_key"]
            "status": "200" => "409 identity_conflict";
    }

    "nobody else is us" on BOTH {
        ["introduce_post_claims_servers_own_id"] "status": "200" => "409 own_identity";
    }

    "signatures over sorted members are taken too, as newer JSON libraries of the reference make them" on BOTH {
        ["canon_sent_unsorted_signed_sorted"] "identity_verified": "false" => "true";
        ["canon_sent_unsorted_signed_sorted"] "session_token": "absent" => "*";
    }

    "an identity holds no integers beyond 64 bits, and no zero with a sign that is not a float" on BOTH {
        ["canon_value_bigint", "canon_value_neg_int_zero"] "identity_verified": "true" => "false";
        ["canon_value_bigint", "canon_value_neg_int_zero"] "session_token": "*" => "absent";
        ["canon_value_bigint", "canon_value_neg_int_zero"]
            "reason": "absent" => r#""identity_signature: the signature does not match""#;
    }

    // Skills.

    "private skills are neither listed nor served" on BOTH {
        ["introduce_*"] "skills[]": "private_note" => "absent";
        ["introduce_post_*", "canon_*"] "peer_identity.skills[]": "private_note" => "absent";
        ["skill_content_private"] "status": "200" => "404 not_found";
    }

    "what is too large to be served is not listed either" on BOTH {
        ["introduce_*", "skills_list", "auth_*", "mmp_enabled_again"] "skills[]": "big_skill" => "absent";
        ["introduce_post_*", "canon_*"] "peer_identity.skills[]": "big_skill" => "absent";
        ["skill_content_oversize_skill"] "status": "500 internal_error" => "404 not_found";
    }

    "the skill that is too large is not counted" on SEED {
        ["skills_list", "auth_*", "mmp_enabled_again"] "count": "28" => "27";
    }

    "the skill that is too large is not counted" on HEAD {
        ["skills_list", "auth_*", "mmp_enabled_again"] "count": "52" => "51";
    }

    "the summary of a skill without a description is its first line, not that of its frontmatter" on BOTH {
        ["introduce_*", "skills_list", "auth_*", "mmp_enabled_again"]
            "skills[].summary": r#""name: [unclosed""# => r#""body""#;
        ["introduce_post_*", "canon_*"]
            "peer_identity.skills[].summary": r#""name: [unclosed""# => r#""body""#;
    }

    "skills travel with who made them" on BOTH {
        ["skill_content_*"] "provenance": "absent" => r#"{*"hops":*}"#;
    }

    // Messages.

    "the answer is head's, which names no actions that are not there" on SEED {
        ["message_offer_skillset", "message_list_skillsets"]
            "message":
            r#""Action '*' is registered but has no handler. Available handled actions: *""# =>
            r#""Action '*' is recognized but has no handler.""#;
    }

    // SkillSets.

    "there are three layers" on BOTH {
        ["install_bad_layer"] "exit": "0" => "1 Invalid layer 'L9': must be L0, L1 or L2";
        ["list", "disabled_list"] "stdout.bad_layer": "*" => "absent";
        ["skillsets_with_disabled", "skillsets_list"] "skillsets[]": "bad_layer" => "absent";
        ["introduce_with_skillsets"] "exchangeable_skillsets[]": "bad_layer" => "absent";
    }

    "an archive comes from somewhere else, and what rules this agent is named by its owner" on BOTH {
        ["archive_layer_L0_from_archive"]
            "exit":
            "0" =>
            "1 Security error: L0 SkillSet 'h1' is installed from an archive only with --layer L0";
        ["archive_layer_L0_from_archive"] "tree": "installed" => "absent";
    }

    "code is code wherever it lies" on BOTH {
        ["skillsets_with_disabled", "skillsets_list"] "skillsets[]": "sneaky_pack" => "absent";
        ["introduce_with_skillsets"] "exchangeable_skillsets[]": "sneaky_pack" => "absent";
        ["skillset_details", "skillset_content"] "status": "200" => "403 not_exchangeable";
        ["package_sneaky_pack"]
            "exit": "0" => "1 Only knowledge-only SkillSets can be packaged for exchange*";
        ["archive_exec_outside_bin", "archive_exec_in_knowledge", "archive_exec_root_rb"]
            "exit": "0" => "1 Security error: Refusing to install SkillSet that is not knowledge only";
        ["archive_exec_tools_hidden", "archive_exec_tools_php", "archive_exec_tools_bat",
         "archive_exec_Tools_case"]
            "exit":
            "0" =>
            "1 Security error: Refusing to install SkillSet with executable code (tools/ or lib/) from archive";
        ["archive_exec_outside_bin", "archive_exec_in_knowledge", "archive_exec_root_rb",
         "archive_exec_tools_hidden", "archive_exec_tools_php", "archive_exec_tools_bat",
         "archive_exec_Tools_case"] "tree": "installed" => "absent";
    }

    "the SkillSets of two rows above are not counted" on BOTH {
        ["skillsets_with_disabled", "skillsets_list"] "count": "7" => "5";
    }

    "an archive holds the files that its hash covers and their directories, and nothing else" on BOTH {
        ["archive_traversal_absolute", "archive_outside_top_dir",
         "archive_outside_skillset_dir_prefix", "archive_symlink", "archive_hardlink",
         "archive_symlink_dir_then_file", "archive_fifo", "archive_hidden_file_hash_without_it"]
            "exit": "0" => "1 Security error: Refusing to install SkillSet that is not knowledge only";
        ["archive_dotdot_inside"]
            "exit": "0" => "1 Security error: Path traversal detected in archive: h1/x/../y.txt";
        ["archive_traversal_absolute", "archive_dotdot_inside", "archive_outside_top_dir",
         "archive_outside_skillset_dir_prefix", "archive_symlink", "archive_hardlink",
         "archive_symlink_dir_then_file", "archive_fifo", "archive_hidden_file_hash_without_it"]
            "tree": "installed" => "absent";
        ["archive_hidden_file_hash_with_it"]
            "stderr":
            "Security error: Content hash mismatch: expected *" =>
            "Security error: Refusing to install SkillSet that is not knowledge only";
    }

    "an archive that is cut off is not whole, even where the cut is behind the last file" on BOTH {
        ["archive_archive_truncated"] "exit": "0" => "1 the archive is cut off";
        ["archive_archive_truncated"] "tree": "installed" => "absent";
    }

    "archives are bounded" on BOTH {
        ["archive_decompression_50MB"]
            "exit": "0" => "1 the archive has more than 100 times its compressed size";
        ["archive_decompression_50MB"] "tree": "installed" => "absent";
    }

    "the type of an entry is said in its own field; file modes hold permissions" on BOTH {
        ["skillset_content", "skillset_content_ok", "package", "package_*"]
            "*archive_base64.*.mode": r#""100644""# => r#""644""#;
        ["skillset_content", "skillset_content_ok", "package", "package_*"]
            "*archive_base64.*.mode": r#""40755""# => r#""755""#;
    }

    "empty directories are no content: the hash does not cover them" on BOTH {
        ["skillset_content", "package_weird_files"]
            "*archive_base64.weird_files/emptydir": r#"{"type":"Directory",*"# => "absent";
        ["skillset_content", "package_hidden_pack"]
            "*archive_base64.hidden_pack/tools": r#"{"type":"Directory",*"# => "absent";
    }

    "packages travel with a signed list of their files, and with who made them" on BOTH {
        ["skillset_content", "skillset_content_ok", "package", "package_*"]
            "*manifest": "absent" => r#"{*"files":*}"#;
        ["skillset_content", "skillset_content_ok", "package", "package_*"]
            "*manifest_signature": "absent" => r#""*""#;
        ["skillset_content", "skillset_content_ok", "package", "package_*"]
            "*provenance": "absent" => r#"{*"hops":*}"#;
    }

    "what depends on something missing is installed and switched off, and says so" on BOTH {
        ["install_dep_pack", "archive_unmet_dependency"]
            "stderr": "" => "It is switched off: Missing dependency: nonexistent";
        ["list", "disabled_list"] "stdout.dep_pack": "*(enabled)*" => "*(disabled)*";
    }

    "the reply of an agent is taken as it was saved, as the reference's guide says" on BOTH {
        ["install_archive_as_in_guide"] "exit": "1 Archive missing 'name'" => "0";
    }

    // Words of commands.

    "a command line that is not complete is an error of its own kind, told by the parser" on BOTH {
        ["usage"] "exit": "0" => "2 'kairos-chain skillset' requires a subcommand but one was not provided";
        ["package_noarg"]
            "exit":
            "1 Usage: kairos-chain skillset package <name>" =>
            "2 the following required arguments were not provided:";
    }

    "the texts are the seed's; what --force does is in the help" on HEAD {
        ["install_pack", "install_archive_again"]
            "stderr":
            "SkillSet 'my_knowledge_pack' already installed at $DATA/*/my_knowledge_pack. Use *" =>
            "SkillSet 'my_knowledge_pack' already installed at $DATA/*/my_knowledge_pack";
    }

    "dependents are named in the order of their names" on HEAD {
        ["disable_dependency"]
            "stderr":
            "Cannot disable/remove 'mmp': required by synoptis, hestia" =>
            "Cannot disable/remove 'mmp': required by hestia, synoptis";
    }

    "no temporary path is shown" on BOTH {
        ["archive_skillset_json_missing"]
            "stderr": "skillset.json not found in $TMP/*" => "skillset.json not found in 'h1'";
        ["archive_skillset_json_invalid"]
            "stderr":
            "Invalid skillset.json in $TMP/*: 859: unexpected token at '{nope'" =>
            "Invalid skillset.json: the text is not JSON: *";
    }

    "the reference shows what its libraries say, which no program reads" on BOTH {
        ["archive_name_number"]
            "stderr":
            "undefined method `length' for 5:Integer" =>
            "`name` of the package is a number, a string is expected";
        ["archive_archive_gzip_of_garbage"]
            "stderr": r#""xxxxxxxx" is not an octal string"# => "the archive is damaged: *";
        ["archive_json_not_object"]
            "stderr":
            "no implicit conversion of Symbol into Integer" =>
            "the package is not usable: the JSON is an array, an object is expected";
        ["archive_json_invalid"]
            "stderr": "859: unexpected token at '{nope'" => "the package is not usable: the text is not JSON: *";
        ["install_archive_no_such_file"]
            "stderr":
            "No such file or directory @ rb_sysopen - $DATA/work/nope.json" =>
            "cannot read the package: *$DATA/work/nope.json*: No such file or directory*";
    }
}
