//! The action log: who did what to this agent, one JSON line each, in the form of the reference.
//!
//! It is a convenience for people, not evidence: the ledger is that. So an action does not fail because it could not
//! be logged. Several processes append to `skills/action_log.jsonl`, each line in one write under a lock; when the
//! file is large it is moved aside to `action_log.jsonl.1`, in place of the one before.
//!
//! Blocking code: call it from a blocking thread.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{self as fs, File, OpenOptions};
use kairos_protocol::json;
use kairos_protocol::time::Timestamp;
use serde_json::Value;

use crate::file_lock;

/// Size at which the file is moved aside, in bytes; with the one before there is twice as much.
pub const ROTATE_AT: u64 = 4 * 1024 * 1024;
/// Longest line in bytes; the details of a longer one are left out.
pub const LINE_MAX: usize = 16 * 1024;
/// Longest log that is read as a whole, in bytes. Ours never gets there, but the reference moves nothing aside.
pub const WHOLE_MAX: u64 = 64 * 1024 * 1024;
/// Most records that [`ActionLog::newest`] returns.
pub const NEWEST_MAX: usize = 10_000;

/// Something that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    action: &'static str,
    skill_id: Option<String>,
    details: Value,
}

impl Record {
    /// A record of `action`, a word such as `token_created`.
    pub fn new(action: &'static str) -> Self {
        Self {
            action,
            skill_id: None,
            details: Value::Null,
        }
    }

    /// Names the skill, file or SkillSet it was done to.
    #[must_use]
    pub fn about(mut self, id: impl Into<String>) -> Self {
        self.skill_id = Some(id.into());
        self
    }

    /// Tells more. Never a token, key or text of a file.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    fn line(&self, now: Timestamp) -> Vec<u8> {
        let line = |details: &Value| {
            let record = serde_json::json!({
                "timestamp": now.entry(), "action": self.action, "skill_id": self.skill_id, "details": details,
            });
            format!("{record}\n").into_bytes()
        };
        let whole = line(&self.details);
        match whole.len() > LINE_MAX {
            true => line(&serde_json::json!({"left_out": "too long"})),
            false => whole,
        }
    }
}

/// What was done lately.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Newest {
    /// The records, the oldest first.
    pub records: Vec<Value>,
    /// Lines that are no records.
    pub unreadable: usize,
}

/// The log of a data directory. Holds nothing in memory.
#[derive(Debug, Clone)]
pub struct ActionLog {
    path: PathBuf,
}

impl ActionLog {
    /// The log of the data directory `data`.
    pub fn new(data: &Path) -> Self {
        Self {
            path: data.join("skills").join("action_log.jsonl"),
        }
    }

    /// Adds a record; if that fails, the node's own log says so.
    pub fn tell(&self, record: &Record, now: Timestamp) {
        if let Err(error) = self.append(record, now) {
            tracing::warn!(%error, action = record.action, "could not write the action log");
        }
    }

    /// Adds a record.
    pub fn append(&self, record: &Record, now: Timestamp) -> io::Result<()> {
        self.write(record.line(now))?.sync_data()
    }

    /// Adds a line; whoever called syncs it.
    fn write(&self, mut line: Vec<u8>) -> io::Result<File> {
        let mut file = self.open_locked()?;
        if file.metadata()?.size() + line.len() as u64 > ROTATE_AT {
            fs::rename(&self.path, self.previous())?;
            file = self.open_locked()?;
        }
        if !ends_with_a_line(&mut file)? {
            // What a crash tore stays a line of its own.
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        Ok(file)
    }

    /// All lines, oldest first, whether they are records or not. Fails if a file has more than [`WHOLE_MAX`] bytes.
    pub fn lines(&self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        for path in [self.previous(), self.path.clone()] {
            let bytes = read_end(&path, WHOLE_MAX + 1)?;
            if bytes.len() as u64 > WHOLE_MAX {
                let told = format!(
                    "{} has more than {WHOLE_MAX} bytes; move it away",
                    path.display()
                );
                return Err(io::Error::other(told));
            }
            let text = bytes.split(|byte| *byte == b'\n');
            let text = text.filter(|line| !line.is_empty());
            lines.extend(text.map(|line| String::from_utf8_lossy(line).into_owned()));
        }
        Ok(lines)
    }

    /// Adds those of `records`, lines of another log, that are objects of less than [`LINE_MAX`] bytes and not here yet, behind what is here. Says how
    /// many that were.
    pub fn take<'r>(&self, records: impl IntoIterator<Item = &'r str>) -> io::Result<u64> {
        let mut here: HashSet<_> = self.lines()?.into_iter().collect();
        let mut taken = 0;
        for record in records {
            let is_record =
                record.len() < LINE_MAX && json::parse_object(record.as_bytes()).is_ok();
            if is_record && here.insert(record.to_owned()) {
                self.write(format!("{record}\n").into_bytes())?;
                taken += 1;
            }
        }
        if taken > 0 {
            File::open(&self.path)?.sync_data()?;
        }
        Ok(taken)
    }

    /// The last `limit` records, at most [`NEWEST_MAX`].
    pub fn newest(&self, limit: usize) -> io::Result<Newest> {
        let limit = limit.min(NEWEST_MAX);
        let mut newest = Newest::default();
        for path in [self.path.clone(), self.previous()] {
            // One line more may have been written while it is read.
            let bytes = read_end(&path, ROTATE_AT * 2)?;
            let lines = bytes.split(|byte| *byte == b'\n').rev();
            for line in lines.filter(|line| !line.is_empty()) {
                if newest.records.len() >= limit {
                    break;
                }
                match json::parse_object(line) {
                    Ok(members) => newest.records.push(Value::Object(members)),
                    Err(_) => newest.unreadable += 1,
                }
            }
        }
        newest.records.reverse();
        Ok(newest)
    }

    fn previous(&self) -> PathBuf {
        self.path.with_extension("jsonl.1")
    }

    /// Opens the file and locks it; again if it was moved aside meanwhile.
    fn open_locked(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        loop {
            let file = OpenOptions::new()
                .create(true)
                .read(true)
                .append(true)
                .mode(0o600)
                .open(&self.path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("the action log is not a file"));
            }
            file_lock::take(file.file())?;
            let inode = file.metadata()?.ino();
            match fs::metadata(&self.path) {
                Ok(now) if now.ino() == inode => return Ok(file),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The last `limit` bytes of a file of the log; nothing if there is none.
fn read_end(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => {
            let length = file.metadata()?.size();
            file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
            file.take(limit).read_to_end(&mut bytes)?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(bytes)
}

fn ends_with_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.size() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-01-20T10:30:00.9Z").unwrap()
    }

    fn log(folder: &Path) -> ActionLog {
        ActionLog::new(folder)
    }

    #[test]
    fn writes_the_lines_of_the_reference() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        assert_eq!(log.newest(5).unwrap(), Newest::default());
        let record = Record::new("skill_evolved").about("core_safety");
        log.append(&record.details(json!({"count": 1})), now())
            .unwrap();
        log.append(&Record::new("token_revoked"), now()).unwrap();
        let text = fs::read_to_string(folder.path().join("skills/action_log.jsonl")).unwrap();
        let lines = [
            r#"{"timestamp":"2026-01-20T10:30:00+00:00","action":"skill_evolved","skill_id":"core_safety","details":{"count":1}}"#,
            r#"{"timestamp":"2026-01-20T10:30:00+00:00","action":"token_revoked","skill_id":null,"details":null}"#,
            "",
        ];
        assert_eq!(text, lines.join("\n"));
        assert_eq!(log.newest(1).unwrap().records[0]["action"], "token_revoked");
    }

    #[test]
    fn a_torn_line_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        log.append(&Record::new("a"), now()).unwrap();
        let path = folder.path().join("skills/action_log.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"timestamp\":\"20");
        fs::write(&path, text).unwrap();
        log.append(&Record::new("b"), now()).unwrap();
        let newest = log.newest(9).unwrap();
        let actions: Vec<_> = newest
            .records
            .iter()
            .map(|r| r["action"].to_string())
            .collect();
        assert_eq!(actions.concat(), r#""a""b""#);
        assert_eq!(newest.unreadable, 1);
    }

    #[test]
    fn is_bounded_and_loses_no_line_that_is_lately_written() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let long = Record::new("x").details(json!("y".repeat(LINE_MAX)));
        log.append(&long, now()).unwrap();
        assert_eq!(
            log.newest(1).unwrap().records[0]["details"]["left_out"],
            "too long"
        );
        let path = folder.path().join("skills/action_log.jsonl");
        let line = fs::read(&path).unwrap();
        fs::write(&path, line.repeat(ROTATE_AT as usize / line.len())).unwrap();
        log.append(&Record::new("last"), now()).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 1000);
        let newest = log.newest(3).unwrap().records;
        assert_eq!((newest.len(), &newest[2]["action"]), (3, &json!("last")));
    }

    #[test]
    fn takes_the_records_of_another_log_once() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, other) = (log(one.path()), log(other.path()));
        for action in ["first", "second"] {
            one.append(&Record::new(action), now()).unwrap();
        }
        other.append(&Record::new("own"), now()).unwrap();
        let lines = one.lines().unwrap();
        let long = format!("{{\"action\":\"{}\"}}", "x".repeat(LINE_MAX));
        let all = || lines.iter().map(String::as_str);
        let bad = ["", "no record", "[1]", &long];
        assert_eq!(other.take(all().chain(bad)).unwrap(), 2);
        assert_eq!(other.take(all()).unwrap(), 0);
        let actions = other.newest(10).unwrap().records;
        let actions: Vec<_> = actions.iter().map(|record| &record["action"]).collect();
        assert_eq!(actions, ["own", "first", "second"]);
    }

    #[test]
    fn the_newest_of_a_long_log_of_the_reference_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        fs::create_dir_all(log.path.parent().unwrap()).unwrap();
        let line = format!("{{\"action\":\"{}\"}}\n", "x".repeat(1000));
        let count = ROTATE_AT as usize * 2 / line.len() + 10;
        fs::write(&log.path, line.repeat(count) + "{\"action\":\"last\"}\n").unwrap();
        let newest = log.newest(2).unwrap();
        assert_eq!(newest.records[1]["action"], "last");
        assert_eq!((newest.records.len(), newest.unreadable), (2, 0));
    }

    #[test]
    fn lines_of_many_writers_stay_whole() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        log(folder.path()).append(&Record::new("x"), now()).unwrap();
                    }
                });
            }
        });
        let newest = log(folder.path()).newest(1000).unwrap();
        assert_eq!((newest.records.len(), newest.unreadable), (100, 0));
    }
}
