//! What names and describes texts of the layers: resources, archive notes, the search index.

use kairos_protocol::resource::ResourceUri;
use kairos_protocol::search::{Document, Index, Layer, Query, SNIPPET_CHARS, snippet};
use kairos_protocol::skill::archive_meta::ArchiveMeta;

use crate::words;

/// Reads `data` as the name of a resource, as archive notes, as a query and a text, and as an index.
pub fn run(data: &[u8]) -> String {
    let index = match Index::decode_unhashed(data) {
        Ok(index) => {
            let bytes = index.encode();
            let again = Index::decode(&bytes).expect("what was written is read");
            assert_eq!(again.encode(), bytes);
            format!("an index of {}", index.len())
        }
        Err(error) => words(error),
    };
    if let Err(error) = Index::decode(data) {
        assert!(!words(error).is_empty());
    }
    let meta = match ArchiveMeta::parse(data) {
        Ok(meta) => {
            let written = meta.to_yaml();
            assert_eq!(ArchiveMeta::parse(written.as_bytes()), Ok(meta));
            "notes".to_owned()
        }
        Err(error) => words(error),
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return format!("{index}, {meta}");
    };
    let uri = match text.parse::<ResourceUri>() {
        Ok(uri) => {
            let printed = uri.to_string();
            assert!(
                !printed.split('/').any(|part| part == ".." || part == "."),
                "{printed}"
            );
            assert_eq!(printed.parse(), Ok(uri));
            "a resource".to_owned()
        }
        Err(error) => words(error),
    };
    format!("{index}, {meta}, {uri}, {}", search(text))
}

/// A text is found by its first word.
fn search(text: &str) -> String {
    let mut index = Index::default();
    let document = Document {
        key: "k",
        layer: Layer::L1,
        stamp: 0,
        name: "",
        tags: &[],
        description: "",
        body: text,
    };
    assert!(index.put(&document), "there is room for one");
    let first: String = text.chars().take(20).collect();
    match Query::new(&first, 1) {
        Ok(query) => {
            let hits = index.search(&query);
            if let Some(at) = hits.first().and_then(|hit| hit.at) {
                assert!(text.is_char_boundary(at));
                assert!(snippet(text, at).chars().count() <= SNIPPET_CHARS + 2);
            }
            format!("{} hits", hits.len())
        }
        Err(error) => words(error),
    }
}
