# Every recipe is one command; `.ci/run` holds those that CI runs too.

# Lists the recipes.
default:
    @just --list

# Formatting, lints, documentation and the dependency policy.
check:
    .ci/run fmt clippy doc deps

# All tests.
test *ARGS:
    cargo test --workspace {{ ARGS }}

# The benchmarks, as a table of ratios.
bench *ARGS:
    cargo bench -p kairos-tests {{ ARGS }}

# The official conformance suite of MCP: SUITE is its `dist/index.js`, with its dependencies beside it.
conformance SUITE:
    cargo build -p kairos-node -p kairos-tests --bin kairos-chain --bin mcp-fixture
    MCP_CONFORMANCE={{ SUITE }} python3 tests/clients/conformance.py target/debug

# Each fuzz target for so many seconds.
fuzz SECONDS="60":
    fuzz/run {{ SECONDS }}

# Two agents meet, exchange a skill and a SkillSet, and refuse a poisoned one.
demo:
    cargo run -- demo

# The container image, given to Docker.
image *ARGS:
    cargo run -p kairos-deploy -- image {{ ARGS }}

# Agents and Places in containers, and what goes wrong between them.
testnet *ARGS:
    cargo run -p kairos-deploy -- testnet {{ ARGS }}

# Everything that CI runs.
ci:
    .ci/run
