//! What the head of a program says: for which processor it is, and whether it needs others beside it.

use anyhow::{bail, ensure};

/// For which processor a program is, in the words of container images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Processor(pub(crate) &'static str);

/// A program header that names the loader of shared libraries.
const INTERPRETER: u32 = 3;
/// Bytes of a program header.
const HEADER: usize = 56;

/// Checks that `program` is a static one for Linux.
///
/// # Errors
///
/// Where it is not, or not a program at all.
pub(crate) fn check_static(program: &[u8]) -> anyhow::Result<Processor> {
    ensure!(
        program.starts_with(b"\x7fELF\x02\x01"),
        "not a 64-bit little-endian ELF program"
    );
    let processor = match u16::from_le_bytes(bytes(program, 18)?) {
        62 => Processor("amd64"),
        183 => Processor("arm64"),
        other => bail!("for a processor that is not known here (ELF machine {other})"),
    };
    let headers = usize::try_from(u64::from_le_bytes(bytes(program, 32)?))?;
    ensure!(
        usize::from(u16::from_le_bytes(bytes(program, 54)?)) == HEADER,
        "its program headers are of an unknown form"
    );
    for n in 0..usize::from(u16::from_le_bytes(bytes(program, 56)?)) {
        let Some(at) = headers.checked_add(n * HEADER) else {
            bail!("its program headers are not in the file");
        };
        ensure!(
            u32::from_le_bytes(bytes(program, at)?) != INTERPRETER,
            "it needs shared libraries, which the image does not have; build it with --config deploy/static.toml"
        );
    }
    Ok(processor)
}

fn bytes<const N: usize>(program: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    let found = at.checked_add(N).and_then(|end| program.get(at..end));
    match found.and_then(|found| found.try_into().ok()) {
        Some(bytes) => Ok(bytes),
        None => bail!("the file ends too early"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(machine: u16, headers: &[u32]) -> Vec<u8> {
        let mut program = vec![0; 64];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        program[18..20].copy_from_slice(&machine.to_le_bytes());
        program[32] = 64;
        program[54] = 56;
        program[56] = headers.len() as u8;
        for kind in headers {
            program.extend_from_slice(&kind.to_le_bytes());
            program.extend_from_slice(&[0; 52]);
        }
        program
    }

    #[test]
    fn only_static_programs_for_known_processors_pass() {
        assert_eq!(check_static(&program(62, &[1, 2])).unwrap().0, "amd64");
        assert_eq!(check_static(&program(183, &[])).unwrap().0, "arm64");
        let wrong = |program: &[u8]| check_static(program).unwrap_err().to_string();
        assert!(wrong(&program(62, &[1, 3])).contains("shared libraries"));
        assert!(wrong(&program(8, &[])).contains("machine 8"));
        assert!(wrong(b"#!/bin/sh").contains("not a 64-bit"));
        let whole = program(62, &[1, 1]);
        for end in 6..whole.len() - 53 {
            assert!(check_static(&whole[..end]).is_err(), "{end}");
        }
        // This test needs the C library.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(
            check_static(&own).is_ok(),
            cfg!(target_feature = "crt-static")
        );
    }
}
