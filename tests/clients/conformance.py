"""The official conformance suite of the Model Context Protocol against our door.

    MCP_CONFORMANCE=PATH/TO/dist/index.js python3 conformance.py DIRECTORY_OF_PROGRAMS

The suite is the npm package `@modelcontextprotocol/conformance`, unpacked with its dependencies; it needs Node 22, which
`NODE` may name. All scenarios for servers are run against `mcp-fixture`, whose door serves the suite's own tools behind
everything that guards the node's, and those about the protocol itself against `kairos-chain serve`. Exits with 1 where
something fails that `KNOWN` does not name with its reason.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SKILLS = ["sep-2640-skills-enumeration", "sep-2640-skills-manifest", "sep-2640-skills-directory"]
BOTH = ["tools-list", "resources-list", "prompts-list", "server-sse-multiple-streams", "dns-rebinding-protection"]
# Of each revision, the scenarios that call nothing which only a fixture has.
PROTOCOL = {
    "2025-11-25": [*BOTH, *SKILLS, "server-initialize", "server-session-lifecycle", "logging-set-level", "ping"],
    "2026-07-28": [
        *BOTH,
        *SKILLS,
        "server-stateless",
        "sep-2164-resource-not-found",
        "caching",
        "http-header-validation",
        "input-required-result-unsupported-methods",
    ],
}
# What does not pass against a node, by the name of the check. Nothing is known of the fixture.
DIAGNOSTIC = "the suite needs a tool for it that no agent has; passes against the fixture"
KNOWN = {
    "sep-2575-server-rejects-undeclared-capability": DIAGNOSTIC,
    "sep-2575-missing-capability-http-400": DIAGNOSTIC,
    "sep-2575-http-server-no-independent-requests-on-stream": DIAGNOSTIC,
    "sep-2575-server-no-log-without-loglevel": DIAGNOSTIC,
    "sep-2575-server-sends-tools-list-changed-on-subscription": DIAGNOSTIC,
    "sep-2640-directory-read-subdir-mimetype": "the first skill of a fresh agent has no directory; passes against the fixture",
    "sep-2640-skillmd-metadata-name": "skills/list names the skills, resources/list does not repeat them",
    "sep-2640-skillmd-metadata-description": "as its name",
}
# Adds the token to every request of the suite, which has no option for one.
BEARER = """
import diagnostics_channel from "node:diagnostics_channel";
const token = process.env.MCP_TOKEN;
diagnostics_channel.subscribe("undici:request:create", ({ request }) => {
  request.addHeader("authorization", `Bearer ${token}`);
});
diagnostics_channel.subscribe("http.client.request.created", ({ request }) => {
  request.setHeader("authorization", `Bearer ${token}`);
});
"""


@contextlib.contextmanager
def server(programs, name):
    """Runs one of our programs on a directory of its own; yields its URL and a token of its owner."""
    with tempfile.TemporaryDirectory() as home:
        data_dir = ["--data-dir", f"{home}/.kairos"]
        agent = [programs / "kairos-chain", *data_dir]
        knowledge = "---\nname: tea\ndescription: How to serve tea\n---\n\nWarm the pot.\n"
        call = {"name": "knowledge_update", "arguments": {"command": "create", "name": "tea", "content": knowledge}}
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})
        subprocess.run([*agent, "init"], check=True, capture_output=True)
        subprocess.run([*agent, "mcp", "serve"], input=f"{line}\n", text=True, check=True, capture_output=True)
        token = [*agent, "token", "create", "--user", "suite", "--role", "owner"]
        token = subprocess.run(token, check=True, capture_output=True, text=True).stdout.strip()
        serve = subprocess.Popen(
            # One client asks more here in a minute than a node expects of any.
            [programs / name, "serve", *data_dir, "--port", "0", "--set", "limits.requests_per_address=100000"],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            url = None
            while url is None:
                line = serve.stderr.readline()
                if not line:
                    raise SystemExit(f"{name} did not start")
                url = next((word.rstrip("/.,") for word in line.split() if word.startswith("http://")), None)
            yield f"{url}/mcp", token
        finally:
            serve.terminate()
            serve.wait(timeout=60)


def one(scenario):
    """Arguments for one scenario. Those of an extension belong to no revision, so the suite has to be told to run them."""
    return ["--scenario", scenario, *(["--force"] if scenario in SKILLS else [])]


def run(suite, bearer, url, token, version, more):
    """One run of the suite; every check of every scenario, by the name of the scenario."""
    with tempfile.TemporaryDirectory() as results:
        command = [os.environ.get("NODE", "node"), "--import", bearer, suite, "server", "--url", url]
        command += ["--spec-version", version, "--output-dir", results, *more]
        ended = subprocess.run(command, env={**os.environ, "MCP_TOKEN": token}, capture_output=True, text=True)
        checks = {}
        for path in sorted(pathlib.Path(results).rglob("checks.json")):
            name = re.fullmatch(r"server-(.*)-\d{4}-\d\d-\d\dT[\d-]+Z", path.parent.name)
            checks[name.group(1)] = json.loads(path.read_text())
        if not checks:
            raise SystemExit(f"the suite did not run: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
        return checks


def told(where, checks):
    """Prints what did not pass; returns whether all of it is known."""
    # A scenario of another revision is not run.
    checks = {name: of for name, of in checks.items() if any(check["status"] != "SKIPPED" for check in of)}
    flat = [(scenario, check) for scenario, of in checks.items() for check in of]
    passed = [check for _, check in flat if check["status"] == "SUCCESS"]
    judged = [check for _, check in flat if check["status"] in ("SUCCESS", "FAILURE", "WARNING")]
    whole = [name for name, of in checks.items() if not any(check["status"] in ("FAILURE", "WARNING") for check in of)]
    print(f"{where}: {len(whole)} of {len(checks)} scenarios, {len(passed)} of {len(judged)} checks")
    good = True
    for scenario, check in flat:
        if check["status"] not in ("FAILURE", "WARNING"):
            continue
        reason = KNOWN.get(check["id"]) if where.startswith("node") else None
        print(f"  {check['status'].lower()} {scenario}: {check['id']}: {check.get('errorMessage')}")
        print(f"    {'known: ' + reason if reason else 'NOT KNOWN'}")
        good = good and reason is not None
    return good


def main(programs):
    suite = os.environ.get("MCP_CONFORMANCE")
    if not suite:
        raise SystemExit("MCP_CONFORMANCE names no suite")
    good = True
    with tempfile.NamedTemporaryFile("w", suffix=".mjs") as bearer:
        bearer.write(BEARER)
        bearer.flush()
        with server(programs, "mcp-fixture") as (url, token):
            for version in PROTOCOL:
                checks = run(suite, bearer.name, url, token, version, ["--suite", "all"])
                for scenario in SKILLS:
                    checks |= run(suite, bearer.name, url, token, version, one(scenario))
                good &= told(f"fixture {version}", checks)
        with server(programs, "kairos-chain") as (url, token):
            for version, scenarios in PROTOCOL.items():
                checks = {}
                for scenario in scenarios:
                    checks |= run(suite, bearer.name, url, token, version, one(scenario))
                good &= told(f"node {version}", checks)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]).resolve())
