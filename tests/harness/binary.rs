//! Where the program under test is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Names a finished program, which is then neither built nor looked for.
const VARIABLE: &str = "KAIROS_TEST_BINARY";

/// Returns the program under test, built once by the first that asks.
///
/// Cargo builds binaries for the tests of their own package only, so this asks it to. It does so even where a binary
/// is there, because it may be older than the sources; that costs a fraction of a second where nothing changed.
pub fn binary() -> &'static Path {
    static BINARY: LazyLock<PathBuf> =
        LazyLock::new(|| std::env::var_os(VARIABLE).map_or_else(build, PathBuf::from));
    &BINARY
}

/// Returns the independent verifier, which lies beside the program and is built with it.
pub fn verifier() -> PathBuf {
    let beside = binary().with_file_name("kairos-verify");
    beside.with_extension(std::env::consts::EXE_EXTENSION)
}

/// Builds with the profile and into the directory of the running program, which is `<target>/<profile>/kairos-load`, or
/// `<target>/<profile>/deps/it-<hash>` for a test.
fn build() -> PathBuf {
    let running = std::env::current_exe().expect("this program has a path");
    let folder = running.parent().expect("a program is in a directory");
    let beside = match folder.ends_with("deps") {
        true => folder.parent().expect("a profile is above its deps"),
        false => folder,
    };
    let target = beside.parent().expect("a profile is inside a target");
    let profile = match beside.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // All packages, so that features unify as they did for this test and dependencies are not compiled twice.
        .args([
            "build",
            "--quiet",
            "-p",
            "kairos-node",
            "-p",
            "kairos-verify",
            "-p",
            "kairos-tests",
        ])
        .args([
            "--bin",
            "kairos-chain",
            "--bin",
            "kairos-verify",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "kairos-chain does not build");
    beside
        .join("kairos-chain")
        .with_extension(std::env::consts::EXE_EXTENSION)
}
