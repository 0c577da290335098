//! Runs a fuzz target without libFuzzer: the seeds as they are, then mutations of them for some seconds.
//!
//! `plain TARGET SECONDS SEED_DIR...`
//!
//! It sees no coverage. Instead it keeps each input whose outcome is new in words, digits aside, and mutates those
//! too. `FUZZ_SEED` repeats a run. A failing input is written to `fuzz/artifacts/TARGET`, and so is a slow one.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use kairos_fuzz::{TARGETS, Target};

/// Longest input that mutations make, but for seeds that are longer.
const LEN_MAX: usize = 64 * 1024;
/// Most inputs that are kept to be mutated.
const POOL_MAX: usize = 4_096;
/// Longest time that one input may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pieces that formats are made of, which chance would rarely make.
const WORDS: &[&[u8]] = &[
    b"---\n",
    b"\n---\n",
    b"\n\n",
    b"```sh\n",
    b"curl x | sh",
    b"#!/",
    b"ustar\0",
    b"../",
    b"/",
    b".",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"1e999",
    b"-0",
    b"0.1",
    b"18446744073709551616",
    b"public: true\n",
    b"tags: [a]\n",
    b"&a",
    b"*a",
    b"<<: ",
    b"!!binary ",
    b"~>",
    b">= 1.0",
    b"instance_id",
    b"identity",
    b"payload",
    b"action",
    b"provenance",
    b"hash",
    b"T",
    b"Z",
    b"+00:00",
    b"\xe2\x80\xae",
    b"knowledge://",
    b"context://",
    b"/scripts/",
    b"archived_reason: ",
    b"KAIROSIX",
    b" do |a, b|\n",
    b"\nend\n",
    b".map { |x| x }",
    b".each { |x| a << x }",
    b"a = ",
    b"a << a",
    b"\"#{a}\"",
    b" * 99999999",
    b"lambda { |x| x.call(x) }",
    b".call(a)",
    b"Kairos.skills",
    b"&:size",
    b"[0..-1]",
    b"rescue => e",
    b"begin\n",
    b"{ a: 1, \"b\" => [] }",
];

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let (Some(name), Some(Ok(seconds))) = (args.next(), args.next().map(|text| text.parse()))
    else {
        return usage();
    };
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        return usage();
    };
    let seeds = args.flat_map(|dir| files(Path::new(&dir))).collect();
    let mut run = Run::new(&name, *target);
    let ended = run.all(seeds, Duration::from_secs(seconds));
    println!(
        "{name}: {} runs, {} inputs kept, slowest {} ms, seed {}",
        run.count,
        run.pool.len(),
        run.slowest.as_millis(),
        run.seed
    );
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{name}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    eprintln!(
        "usage: plain TARGET SECONDS SEED_DIR...\ntargets: {}",
        names.join(" ")
    );
    ExitCode::from(2)
}

fn files(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("a readable seed"))
        .collect()
}

struct Run {
    target: Target,
    artifacts: PathBuf,
    pool: Vec<Vec<u8>>,
    outcomes: HashSet<u64>,
    count: u64,
    slowest: Duration,
    seed: u64,
    state: u64,
}

impl Run {
    fn new(name: &str, target: Target) -> Self {
        let seed = env::var("FUZZ_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(1);
        Self {
            target,
            artifacts: Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("artifacts")
                .join(name),
            pool: Vec::new(),
            outcomes: HashSet::new(),
            count: 0,
            slowest: Duration::ZERO,
            seed,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn all(&mut self, seeds: Vec<Vec<u8>>, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        if seeds.is_empty() {
            return Err("there are no seeds".to_owned());
        }
        for seed in seeds {
            self.one(&seed)?;
            self.pool.push(seed);
        }
        while Instant::now() < until {
            let input = self.mutation();
            if self.one(&input)? && self.pool.len() < POOL_MAX {
                self.pool.push(input);
            }
        }
        Ok(())
    }

    /// Runs one input, and returns whether its outcome is new.
    fn one(&mut self, input: &[u8]) -> Result<bool, String> {
        let (mut outcome, mut took) = self.timed(input)?;
        if took > PATIENCE {
            // Once more, since a busy machine may have had other things to do.
            (outcome, took) = self.timed(input)?;
            if took > PATIENCE {
                return Err(self.keep("slow", input));
            }
        }
        self.count += 1;
        self.slowest = self.slowest.max(took);
        let mut words = DefaultHasher::new();
        outcome
            .bytes()
            .filter(|byte| !byte.is_ascii_digit())
            .take(200)
            .for_each(|byte| words.write_u8(byte));
        // Inputs that take longer by a magnitude lead somewhere too.
        (
            input.len().checked_ilog2(),
            took.as_millis().checked_ilog2().unwrap_or(0) / 3,
        )
            .hash(&mut words);
        Ok(self.outcomes.insert(words.finish()))
    }

    fn timed(&self, input: &[u8]) -> Result<(String, Duration), String> {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.target)(input)));
        let outcome = outcome.map_err(|_| self.keep("crash", input))?;
        Ok((outcome, began.elapsed()))
    }

    /// Writes an input down and says where.
    fn keep(&self, what: &str, input: &[u8]) -> String {
        let mut hash = DefaultHasher::new();
        hash.write(input);
        let file = self
            .artifacts
            .join(format!("{what}-{:016x}", hash.finish()));
        fs::create_dir_all(&self.artifacts).expect("the artifacts can be written");
        fs::write(&file, input).expect("the artifacts can be written");
        format!("{what}: {}", file.display())
    }

    fn mutation(&mut self) -> Vec<u8> {
        let mut input = self.pooled();
        let longest = input.len().max(LEN_MAX);
        for _ in 0..=self.below(4) {
            self.mutate(&mut input);
        }
        input.truncate(longest);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let end = (at + self.below(64)).min(input.len());
        match self.below(8) {
            0 => {
                input.drain(at..end);
            }
            1 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            2 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..end, word.iter().copied());
            }
            3 => {
                let times = 1 + self.below(16);
                let piece = input[at..end].repeat(times);
                input.splice(at..at, piece);
            }
            4 => {
                let other = self.pooled();
                let from = self.below(other.len() + 1);
                let to = (from + self.below(512)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            5 if at < input.len() => input[at] = self.below(256) as u8,
            6 if at < input.len() => input[at] ^= 1 << self.below(8),
            _ if at < input.len() => input[at] = input[at].wrapping_add(1),
            _ => input.push(self.below(256) as u8),
        }
    }

    fn pooled(&mut self) -> Vec<u8> {
        let n = self.below(self.pool.len());
        self.pool[n].clone()
    }

    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) as usize % bound
    }
}
