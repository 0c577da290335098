use proptest::prelude::*;

use super::*;

fn document<'a>(key: &'a str, name: &'a str, body: &'a str) -> Document<'a> {
    Document {
        key,
        layer: Layer::L1,
        stamp: 7,
        name,
        tags: &[],
        description: "",
        body,
    }
}

fn found(index: &Index, text: &str) -> Vec<String> {
    let hits = index.search(&Query::new(text, 10).unwrap());
    hits.into_iter().map(|hit| hit.key).collect()
}

#[test]
fn the_field_the_rarity_and_the_length_decide() {
    let mut index = Index::default();
    let tags = ["pottery".to_owned()];
    let filler = "water and leaves ".repeat(40);
    for document in [
        document("named", "tea", &filler),
        document("brief", "a", "tea in a pot"),
        document("long", "b", &format!("{filler} tea")),
        document("other", "c", "coffee in a pot"),
        Document {
            tags: &tags,
            description: "about clay",
            ..document("tagged", "d", &filler)
        },
    ] {
        assert!(index.put(&document));
    }
    assert_eq!(found(&index, "Tea"), ["named", "brief", "long"]);
    assert_eq!(found(&index, "tea pot")[0], "brief");
    assert_eq!(found(&index, "pottery"), ["tagged"]);
    assert_eq!(found(&index, "clay"), ["tagged"]);
    assert_eq!(found(&index, "absent"), [""; 0]);
    let hit = &index.search(&Query::new("coffee pot", 1).unwrap())[0];
    assert_eq!((hit.key.as_str(), hit.at), ("other", Some(0)));
}

#[test]
fn layers_tags_and_limits_narrow_it_down() {
    let mut index = Index::default();
    let tags = ["Green".to_owned()];
    for (key, layer) in [("a", Layer::L0), ("b", Layer::L1), ("c", Layer::L2)] {
        let tags: &[String] = if key == "b" { &tags } else { &[] };
        index.put(&Document {
            layer,
            tags,
            ..document(key, "tea", "")
        });
    }
    let query = Query::new("tea", 10).unwrap();
    let keys =
        |query: &Query| -> Vec<String> { index.search(query).into_iter().map(|h| h.key).collect() };
    let in_layer = |layer| {
        keys(&Query {
            layer: Some(layer),
            ..query.clone()
        })
    };
    assert_eq!(in_layer(Layer::L2), ["c"]);
    let tag = Some("green".to_owned());
    assert_eq!(
        keys(&Query {
            tag,
            ..query.clone()
        }),
        ["b"]
    );
    assert_eq!(
        keys(&Query {
            limit: 2,
            ..query.clone()
        }),
        ["a", "b"]
    );
    assert_eq!(keys(&Query { limit: 0, ..query }), [""; 0]);
}

#[test]
fn a_query_is_words_and_bounded() {
    assert_eq!(Query::new(".*", 9), Err(QueryError::NoWords));
    assert_eq!(Query::new("(a+)+$", 1_000).unwrap().limit, HITS_MAX);
    let long = "x".repeat(QUERY_BYTES_MAX + 1);
    assert_eq!(
        Query::new(&long, 9),
        Err(QueryError::TooLong(QUERY_BYTES_MAX + 1))
    );
    let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(
        Query::new(&many.join(" "), 9).unwrap().words.len(),
        QUERY_WORDS_MAX
    );
}

#[test]
fn what_is_beyond_the_bound_of_a_document_is_not_found() {
    let mut index = Index::default();
    let body = format!("{} needle", "hay ".repeat(TOKENS_MAX));
    index.put(&document("k", "n", &body));
    assert_eq!(found(&index, "hay"), ["k"]);
    assert_eq!(found(&index, "needle"), [""; 0]);
}

#[test]
fn an_index_full_of_changes_stays_small() {
    let mut index = Index::default();
    let words: String = (0..500).map(|n| format!("w{n} ")).collect();
    for round in 0..200 {
        let key = format!("k{}", round % 3);
        index.put(&document(&key, &format!("r{round}"), &words));
    }
    let held: usize = index.postings.iter().map(Vec::len).sum();
    assert!(held < 15_000, "{held}");
    assert_eq!(index.len(), 3);
    assert_eq!(found(&index, "r199"), ["k1"]);
    assert_eq!(found(&index, "r150"), [""; 0]);
    assert_eq!(found(&index, "w250").len(), 3);
}

#[test]
fn a_flipped_bit_or_another_version_is_never_taken_for_an_index() {
    let mut index = Index::default();
    index.put(&document("k", "tea", "pot"));
    let bytes = index.encode();
    for at in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        assert!(Index::decode(&bytes).is_err(), "bit {at}");
    }
    for end in 0..bytes.len() {
        assert!(Index::decode(&bytes[..end]).is_err(), "{end} bytes");
    }
    assert!(matches!(Index::decode(b"{}"), Err(DecodeError::Foreign)));
    assert!(matches!(
        Index::decode(b"KAIROSIX\x02"),
        Err(DecodeError::Version(2))
    ));
}

/// Puts (a key, some words) and removals, as a plain list would have them.
fn changes() -> impl Strategy<Value = Vec<(u8, Option<String>)>> {
    let words = "([abc]|日本|tea){1,3}( ([abc]|日|tea)){0,6}";
    prop::collection::vec((0_u8..6, prop::option::weighted(0.8, words)), 0..40)
}

proptest! {
    #[test]
    fn after_any_changes_it_finds_what_a_fresh_index_finds(changes in changes(), asked in "[abc]|tea|日本|本|a b tea") {
        let mut index = Index::default();
        let mut plain = std::collections::BTreeMap::new();
        for (key, body) in changes {
            let key = key.to_string();
            match body {
                Some(body) => {
                    index.put(&document(&key, "n", &body));
                    plain.insert(key, body);
                }
                None => {
                    prop_assert_eq!(index.remove(&key), plain.remove(&key).is_some());
                }
            }
        }
        let mut fresh = Index::default();
        for (key, body) in &plain {
            fresh.put(&document(key, "n", body));
        }
        let query = Query::new(&asked, 10).unwrap();
        let expected = fresh.search(&query);
        prop_assert_eq!(index.search(&query), expected.clone());
        let again = Index::decode(&index.encode()).unwrap();
        prop_assert_eq!(again.search(&query), expected);
        prop_assert_eq!(again.encode(), index.encode());
        index.tidied();
        prop_assert_eq!(index.search(&query), again.search(&query));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), small in prop::collection::vec(0_u8..6, 0..80)) {
        let _ = Index::decode(&bytes);
        for content in [bytes, small] {
            if let Ok(index) = Index::decode_unhashed(&content) {
                index.search(&Query::new("a", 9).unwrap());
                prop_assert!(Index::decode(&index.encode()).is_ok());
            }
        }
    }
}
