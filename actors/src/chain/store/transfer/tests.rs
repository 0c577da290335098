use std::time::Duration;

use super::*;
use crate::chain::store::HISTORY_MAX;
use crate::chain::store::conformance::{clock, one};
use kairos_protocol::time::Clock as _;

struct Agent(tempfile::TempDir);

impl Agent {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn places(&self, backend: Backend) -> Places {
        Places {
            backend,
            file: self.0.path().join("storage/blockchain.json"),
            sqlite: self.0.path().join("storage/kairos.db"),
            wal: true,
            patience: Duration::from_secs(60),
        }
    }

    fn backups(&self) -> PathBuf {
        self.0.path().join("storage/backups")
    }

    fn append(&self, backend: Backend, texts: &[&str]) {
        let store = self.places(backend).open().unwrap();
        for text in texts {
            store.append(one(*text), &clock()).unwrap();
        }
    }

    fn entries(&self, backend: Backend) -> Vec<String> {
        let store = self.places(backend).open().unwrap();
        assert!(store.verify().unwrap().is_valid());
        let blocks = store.history(HISTORY_MAX).unwrap();
        blocks
            .iter()
            .rev()
            .map(|b| b.data()[0].clone())
            .skip(1)
            .collect()
    }

    fn text(&self, backend: Backend, form: Form) -> Vec<u8> {
        let held = Held::take(&self.places(backend), backend).unwrap();
        let mut writer = Writer::new(Vec::new(), form, Path::new("out"));
        held.blocks(&mut |block| writer.add(block).unwrap())
            .unwrap();
        writer.end().unwrap().0
    }
}

const BOTH: [Backend; 2] = [Backend::File, Backend::Sqlite];

fn other(backend: Backend) -> Backend {
    match backend {
        Backend::File => Backend::Sqlite,
        Backend::Sqlite => Backend::File,
    }
}

#[test]
fn a_ledger_moves_between_its_forms_without_a_change() {
    for from in BOTH {
        let to = other(from);
        let agent = Agent::new();
        agent.append(from, &["a", "b"]);
        let running = agent.places(from).open().unwrap();
        running.tip().unwrap();
        let before = agent.text(from, Form::Json);
        if from == Backend::Sqlite {
            // Nobody may have the database open when it goes.
            let patience = Duration::from_millis(50);
            let places = Places {
                patience,
                ..agent.places(from)
            };
            assert!(matches!(
                Alone::take(&places, from),
                Err(TransferError::Store(StoreError::Locked))
            ));
            assert_eq!(agent.entries(from), ["a", "b"], "and it stays of use");
        }
        let running = (from == Backend::File).then_some(running);

        let places = agent.places(from);
        let source = Alone::take(&places, from).unwrap();
        let staged = Staged::copy(source.held(), places.path(to), &mut |_| ()).unwrap();
        assert_eq!(staged.length(), 3);
        let target = Held::take(&places, to).unwrap();
        assert_eq!(target.relation(&staged).unwrap(), Relation::New);
        assert_eq!(
            target
                .replace(staged, &agent.backups(), clock().now())
                .unwrap(),
            None
        );
        let kept = source.put_away(&agent.backups(), clock().now()).unwrap();
        assert!(kept.exists() && !places.path(from).exists());
        if let Some(running) = running {
            let gone = running.append(one("lost?"), &clock());
            assert!(matches!(gone, Err(StoreError::Gone)));
        }
        assert_eq!(agent.text(to, Form::Json), before);
        agent.append(to, &["c"]);
        assert_eq!(agent.entries(to), ["a", "b", "c"]);
    }
}

#[test]
fn what_comes_in_is_the_same_whatever_its_form_and_the_old_one_is_kept() {
    for backend in BOTH {
        for form in [Form::Json, Form::JsonLines] {
            let giver = Agent::new();
            giver.append(backend, &["a", "b", "c"]);
            let text = giver.text(backend, form);
            let agent = Agent::new();
            agent.append(backend, &["x"]);
            let places = agent.places(backend);
            let path = places.path(backend);
            let staged = Staged::read(&text[..], "text", path, &mut |_| ()).unwrap();
            let held = Held::take(&places, backend).unwrap();
            assert_eq!(held.relation(&staged).unwrap(), Relation::Differs);
            let kept = held
                .replace(staged, &agent.backups(), clock().now())
                .unwrap()
                .unwrap();
            let kept = fs::read(kept).unwrap();
            let report = read(&kept[..], |_| Ok::<_, ()>(())).unwrap();
            assert_eq!((report.state, report.length), (LoadState::Readable, 2));
            assert_eq!(agent.entries(backend), ["a", "b", "c"]);
            agent.append(backend, &["d"]);
            assert_eq!(agent.entries(backend).len(), 4);
            let folder = path.parent().unwrap();
            let left = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert_eq!(left.filter(|name| name.starts_with('.')).count(), 0);
        }
    }
}

#[test]
fn tells_how_a_ledger_stands_to_the_one_in_use() {
    for backend in BOTH {
        let agent = Agent::new();
        agent.append(backend, &["a"]);
        let short = agent.text(backend, Form::Json);
        agent.append(backend, &["b"]);
        let same = agent.text(backend, Form::JsonLines);
        agent.append(backend, &["c"]);
        let long = agent.text(backend, Form::Json);
        let other = Agent::new();
        other.append(backend, &["x", "y", "z"]);
        let differs = other.text(backend, Form::Json);

        let user = Agent::new();
        let places = user.places(backend);
        let path = places.path(backend);
        let stage = |text: &[u8]| Staged::read(text, "text", path, &mut |_| ()).unwrap();
        let held = Held::take(&places, backend).unwrap();
        assert_eq!(held.relation(&stage(&same)).unwrap(), Relation::New);
        held.replace(stage(&same), &user.backups(), clock().now())
            .unwrap();
        let held = Held::take(&places, backend).unwrap();
        for (text, relation) in [
            (&short, Relation::Behind),
            (&same, Relation::Same),
            (&long, Relation::Continues),
            (&differs, Relation::Differs),
        ] {
            assert_eq!(held.relation(&stage(text)).unwrap(), relation);
        }
    }
}

#[test]
fn what_is_no_chain_is_refused_and_leaves_nothing() {
    let agent = Agent::new();
    agent.append(Backend::File, &["a", "b"]);
    let good = String::from_utf8(agent.text(Backend::File, Form::Json)).unwrap();
    let lines = String::from_utf8(agent.text(Backend::File, Form::JsonLines)).unwrap();
    let first_gone: Vec<_> = lines.lines().skip(1).collect();
    let path = agent.places(Backend::File).file;
    let before = fs::read(&path).unwrap();
    for text in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        "nonsense".to_owned(),
        good[..good.len() - 1].to_owned(),
        good.replace("\"a\"", "\"A\""),
        first_gone.join("\n"),
        format!("{lines}{{"),
    ] {
        let staged = Staged::read(text.as_bytes(), "text", &path, &mut |_| ());
        assert!(
            matches!(
                staged,
                Err(TransferError::Bad { .. } | TransferError::Empty(_))
            ),
            "{text}"
        );
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(agent.entries(Backend::File), ["a", "b"]);
    assert!(
        Staged::read(
            format!("\n{lines}\n").as_bytes(),
            "text",
            &path,
            &mut |_| ()
        )
        .is_ok()
    );
}

#[test]
fn nothing_is_imported_over_a_database_that_was_made_meanwhile() {
    let giver = Agent::new();
    giver.append(Backend::Sqlite, &["a"]);
    let text = giver.text(Backend::Sqlite, Form::Json);
    let agent = Agent::new();
    let places = agent.places(Backend::Sqlite);
    let staged = Staged::read(&text[..], "text", &places.sqlite, &mut |_| ()).unwrap();
    let held = Held::take(&places, Backend::Sqlite).unwrap();
    agent.append(Backend::Sqlite, &["mine"]);
    let made = held.replace(staged, &agent.backups(), clock().now());
    assert!(matches!(made, Err(TransferError::Io { .. })));
    assert_eq!(agent.entries(Backend::Sqlite), ["mine"]);
}

#[test]
fn a_ledger_that_cannot_be_kept_is_not_replaced() {
    for backend in BOTH {
        let agent = Agent::new();
        agent.append(backend, &["a"]);
        fs::write(agent.backups(), "in the way").unwrap();
        let giver = Agent::new();
        giver.append(backend, &["b"]);
        let text = giver.text(backend, Form::Json);
        let places = agent.places(backend);
        let staged = Staged::read(&text[..], "text", &places.file, &mut |_| ()).unwrap();
        let held = Held::take(&places, backend).unwrap();
        let refused = held.replace(staged, &agent.backups(), clock().now());
        assert!(matches!(refused, Err(TransferError::Io { .. })));
        assert_eq!(agent.entries(backend), ["a"]);
    }
}

#[test]
fn a_ledger_behind_a_link_is_kept_and_replaced_itself() {
    let agent = Agent::new();
    agent.append(Backend::File, &["a"]);
    let places = agent.places(Backend::File);
    let real = agent.0.path().join("real.json");
    fs::rename(&places.file, &real).unwrap();
    std::os::unix::fs::symlink(&real, &places.file).unwrap();
    let giver = Agent::new();
    giver.append(Backend::File, &["b"]);
    let text = giver.text(Backend::File, Form::Json);
    let staged = Staged::read(&text[..], "text", &real, &mut |_| ()).unwrap();
    let held = Held::take(&places, Backend::File).unwrap();
    let kept = held.replace(staged, &agent.backups(), clock().now());
    let kept = kept.unwrap().unwrap();
    assert!(!kept.is_symlink() && places.file.is_symlink());
    agent.append(Backend::File, &["c"]);
    assert_eq!(agent.entries(Backend::File), ["b", "c"]);
    let report = read(&fs::read(kept).unwrap()[..], |_| Ok::<_, ()>(())).unwrap();
    assert_eq!(report.length, 2);
}
