"""The official Python SDK as a client of the real binary: every tool, over stdio and HTTP, in both eras.

    python3 python_sdk.py PATH/TO/kairos-chain

Needs the package `mcp`; the SDK checks each structured result against the tool's output schema. Exits with 1 and says
what went wrong if anything does.
"""

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

# `legacy` shakes hands, `auto` asks what the server speaks, the date is the revision without a handshake.
MODES = ["legacy", "auto", "2026-07-28"]
TEA = "---\nname: tea\ndescription: How to serve tea\ntags: [tea]\n---\n\nWarm the pot.\n"
# A good call of each tool that needs no other agent. Tools that do are called with an address where nobody is.
NOWHERE = "http://127.0.0.1:9"
GOOD = [
    ("hello_world", {"name": "Ada"}),
    ("knowledge_update", {"command": "create", "name": "tea", "content": TEA}),
    ("knowledge_list", {"search": "tea"}),
    ("knowledge_get", {"name": "tea", "include_scripts": True}),
    ("why", {"name": "tea"}),
    ("search", {"query": "pot"}),
    ("context_save", {"name": "notes", "content": "# Notes\n", "session_id": "s1"}),
    ("context_create_subdir", {"name": "notes", "session_id": "s1", "subdir": "assets"}),
    (
        "skills_promote",
        {
            "command": "analyze",
            "source_name": "notes",
            "from_layer": "L2",
            "to_layer": "L1",
            "session_id": "s1",
            "personas": ["kairos", "skeptic"],
        },
    ),
    ("skills_audit", {"command": "check", "with_assembly": True}),
    ("skills_audit", {"command": "dangerous", "layer": "L1"}),
    ("resource_list", {"layer": "l1"}),
    ("resource_read", {"uri": "knowledge://tea"}),
    ("skills_list", {}),
    ("skills_get", {"section_id": "PHILOSOPHY-001"}),
    ("skills_dsl_list", {}),
    ("skills_dsl_get", {"skill_id": "core_safety"}),
    ("skills_rollback", {"command": "list"}),
    ("definition_verify", {"skill_id": "core_safety"}),
    ("definition_decompile", {"skill_id": "core_safety"}),
    ("definition_drift", {"skill_id": "core_safety"}),
    ("tool_guide", {"command": "catalog"}),
    ("system_upgrade", {"command": "check"}),
    ("instructions_update", {"command": "status"}),
    ("chain_record", {"logs": ["from the SDK"]}),
    ("chain_status", {}),
    ("chain_verify", {}),
    ("chain_history", {"limit": 3, "format": "json"}),
    ("chain_prove", {"index": 1}),
    ("chain_export", {}),
    (
        "formalization_record",
        {
            "skill_id": "x",
            "skill_version": "1",
            "source_text": "t",
            "result": "not_formalized",
            "rationale": "r",
            "formalization_category": "rule",
        },
    ),
    ("formalization_history", {}),
    ("state_commit", {"reason": "from the SDK", "force": True}),
    ("state_status", {}),
    ("state_history", {"limit": 2}),
    ("token_manage", {"command": "list"}),
    ("approvals_list", {"all": True}),
    ("chain_migrate_status", {}),
    ("chain_migrate_execute", {"target_stage": 1, "dry_run": True}),
    ("philosophy_anchor", {"philosophy_type": "exchange", "content": "we share"}),
    (
        "record_observation",
        {"observed_id": "ben", "observation_type": "completed", "interaction_data": "we met"},
    ),
    ("meeting_disconnect", {}),
    ("meeting_place_status", {"include_agents": True}),
    ("peer_list", {}),
    ("inbox_read", {}),
    ("place_list", {}),
    ("place_mail", {}),
    ("knowledge_update", {"command": "delete", "name": "tea"}),
]
FAILING = [
    ("meeting_connect", {"url": NOWHERE, "mode": "direct"}),
    ("meeting_get_skill_details", {"peer_id": "ben", "skill_id": "tea"}),
    ("meeting_acquire_skill", {"peer_id": "ben", "skill_id": "tea"}),
    ("peer_meet", {"url": NOWHERE}),
    ("peer_acquire", {"url": NOWHERE, "name": "tea"}),
    ("peer_message", {"url": NOWHERE, "action": "reflect"}),
    ("place_join", {"url": NOWHERE}),
    ("place_leave", {"url": NOWHERE}),
    ("meeting_place_start", {"name": "Another"}),
    ("place_browse", {}),
    ("place_deposit", {"skill": "tea"}),
    ("place_withdraw", {"skill": "tea", "reason": "test"}),
    ("place_acquire", {"skill": "tea"}),
    ("place_message", {"to": "nobody", "text": "hello"}),
    ("skills_evolve", {"command": "reset"}),
    ("skills_promote", {"command": "promote", "source_name": "tea", "from_layer": "L2", "to_layer": "L0"}),
    ("chain_export", {"output_dir": "../spring"}),
    ("chain_import", {"source": "export", "input_dir": "/nowhere", "approved": True}),
    ("skills_audit", {"command": "archive", "target": "tea", "reason": "test", "approved": True}),
    ("approvals_show", {"id": "p000000000000"}),
    ("chain_record", {"logs": []}),
    ("knowledge_get", {"name": "../tea"}),
    ("chain_history", {"limit": "many"}),
]


class Failed(Exception):
    pass


def check(holds, what):
    if not holds:
        raise Failed(what)


async def every_tool(client, named):
    listed = (await client.list_tools()).tools
    names = {tool.name for tool in listed}
    for name, arguments in GOOD:
        result = await client.call_tool(name, arguments)
        check(not result.is_error, f"{named}: {name} {arguments}: {result.content}")
        check(result.structured_content is not None, f"{named}: {name} gave no structured content")
    for name, arguments in FAILING:
        result = await client.call_tool(name, arguments)
        check(result.is_error and result.content[0].text, f"{named}: {name} {arguments} did not fail: {result}")
    for name in names:
        result = await client.call_tool(name, {"no_such_argument": True})
        check(result.is_error, f"{named}: {name} took an argument that it does not have")
    called = {name for name, _ in GOOD + FAILING}
    check(called <= names, f"{named}: not listed: {called - names}")
    check(names <= called, f"{named}: never called: {names - called}")
    try:
        await client.call_tool("no_such_tool", {})
    except MCPError:
        pass
    else:
        raise Failed(f"{named}: an unknown tool was called")
    return len(names)


async def everything_else(client, named):
    resources = (await client.list_resources()).resources
    check(any(str(r.uri) == "l0://kairos.md" for r in resources), f"{named}: the constitution is not listed")
    for resource in resources:
        read = await client.read_resource(str(resource.uri))
        check(read.contents, f"{named}: {resource.uri} is empty")
    templates = (await client.list_resource_templates()).resource_templates
    check(len(templates) >= 5, f"{named}: templates: {templates}")
    check((await client.read_resource("ledger://block/0")).contents, f"{named}: no genesis")
    prompts = (await client.list_prompts()).prompts
    for prompt in prompts:
        arguments = {argument.name: "x" for argument in prompt.arguments or []}
        got = await client.get_prompt(prompt.name, arguments)
        check(got.messages, f"{named}: {prompt.name} says nothing")


async def consent(client, named, asked):
    arguments = {"command": "update", "mode_name": "user", "content": f"# {named}\n", "reason": "test"}
    before = len(asked)
    result = await client.call_tool("instructions_update", arguments)
    check(not result.is_error, f"{named}: {result.content}")
    status = result.structured_content["change"]["status"]
    check(len(asked) == before + 1, f"{named}: the user was not asked")
    check(status == "approved", f"{named}: the user said yes, and it is {status}")


def asker(asked):
    async def ask(_context, params):
        asked.append(params.message)
        return ElicitResult(action="accept", content={"approve": True})

    return ask


async def over_stdio(binary, mode):
    with tempfile.TemporaryDirectory() as home:
        asked = []
        server = StdioServerParameters(
            command=binary,
            args=["--data-dir", f"{home}/.kairos"],
            env={"PATH": os.environ["PATH"]},
        )
        async with Client(server, mode=mode, elicitation_callback=asker(asked)) as client:
            count = await every_tool(client, f"stdio {mode}")
            await everything_else(client, f"stdio {mode}")
            await consent(client, f"stdio {mode}", asked)
        print(f"stdio {mode}: {count} tools")


@contextlib.contextmanager
def node(binary):
    with tempfile.TemporaryDirectory() as home:
        base = [binary, "--data-dir", f"{home}/.kairos"]
        subprocess.run([*base, "init"], check=True, capture_output=True)
        made = subprocess.run(
            [*base, "token", "create", "--user", "sdk", "--role", "owner"], check=True, capture_output=True, text=True
        )
        serve = subprocess.Popen(
            # One client asks more here in a minute than a node expects of any.
            [*base, "--set", "limits.requests_per_address=100000", "serve", "--port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            url = None
            while url is None:
                line = serve.stderr.readline()
                check(line, "the node did not start")
                url = next((word.rstrip("/.,") for word in line.split() if word.startswith("http://")), None)
            yield f"{url}/mcp", made.stdout.strip()
        finally:
            serve.terminate()
            serve.wait(timeout=60)


async def over_http(url, token, mode):
    asked = []
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=asker(asked)) as client:
            count = await every_tool(client, f"http {mode}")
            await everything_else(client, f"http {mode}")
            await consent(client, f"http {mode}", asked)
    print(f"http {mode}: {count} tools")


async def main(binary):
    for mode in MODES:
        await over_stdio(binary, mode)
    with node(binary) as (url, token):
        for mode in MODES:
            await over_http(url, token, mode)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        asyncio.run(main(str(pathlib.Path(sys.argv[1]).resolve())))
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
