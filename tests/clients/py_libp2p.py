"""libp2p of another language as a neighbour: py-libp2p dials our node, identifies it, pings it, asks whose it is, and
finds in its table the record of an agent that lives elsewhere.

    python3 py_libp2p.py PATH/TO/kairos-chain

Needs the package `libp2p`. Exits with 1 and says what went wrong if anything does.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import multiaddr
import trio
from libp2p import new_host
from libp2p.custom_types import TProtocol
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.io.utils import read_exactly
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.utils import encode_uvarint, read_length_prefixed_protobuf, read_varint_prefixed_bytes

RECORDS = TProtocol("/kairos/records/1")
TABLE = TProtocol("/kairos/kad/1")
PATIENCE = 60


class Node:
    """A server with a libp2p node on loopback and no HTTP port."""

    def __init__(self, program: str, home: pathlib.Path, *settings: str) -> None:
        self.base = [program, "--data-dir", str(home)]
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("KAIROS_")}
        subprocess.run([*self.base, "init"], env=self.env, check=True, capture_output=True)
        chosen = ["p2p.listen=/ip4/127.0.0.1/tcp/0", "p2p.mdns=false", "p2p.announce=world", *settings]
        overrides = [part for setting in chosen for part in ("--set", setting)]
        self.process = subprocess.Popen(
            [*self.base, *overrides, "serve", "--p2p", "--no-http"],
            env=self.env, stderr=subprocess.PIPE, text=True,
        )
        for line in self.process.stderr:
            if "libp2p node" in line:
                break

    def json(self, *args: str) -> dict:
        asked = subprocess.run([*self.base, "--json", *args], env=self.env, check=True, capture_output=True)
        return json.loads(asked.stdout)

    def address(self) -> str:
        status = self.json("p2p", "status")
        return f"{status['listen'][0]}/p2p/{status['peer']}"

    def published(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.json("p2p", "status")["published"] != "table":
            if time.monotonic() > deadline:
                raise TimeoutError("the record is not published")
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


async def ask(host, peer, question: dict) -> dict:
    """Asks for a record: four bytes of length and JSON, both ways."""
    stream = await host.new_stream(peer, [RECORDS])
    body = json.dumps(question).encode()
    await stream.write(len(body).to_bytes(4, "big") + body)
    await stream.close_write()
    length = int.from_bytes(await read_exactly(stream, 4), "big")
    return json.loads(await read_exactly(stream, length))


async def look_up(host, peer, agent: str) -> dict:
    """Asks a node for what its table has of an agent, as Kademlia does."""
    key = f"/kairos/agent/{agent}".encode()
    stream = await host.new_stream(peer, [TABLE])
    question = Message(type=Message.GET_VALUE, key=key).SerializeToString()
    await stream.write(encode_uvarint(len(question)) + question)
    told = Message()
    told.ParseFromString(await read_varint_prefixed_bytes(stream))
    await stream.close()
    return json.loads(told.record.value)


async def converse(hub: Node, ada: Node) -> None:
    host = new_host()
    async with host.run(listen_addrs=[multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        info = info_from_p2p_addr(multiaddr.Multiaddr(hub.address()))
        await host.connect(info)
        peer = info.peer_id

        stream = await host.new_stream(peer, [IDENTIFY])
        told = parse_identify_response(await read_length_prefixed_protobuf(stream))
        assert told.agent_version.startswith("kairos-chain/"), told.agent_version
        assert {RECORDS, TABLE} <= set(told.protocols), told.protocols
        print(f"identified {told.agent_version}, {len(told.protocols)} protocols")

        [took] = await PingService(host).ping(peer, 1)
        print(f"pinged in {took} us")

        ids = [node.json("identity")["id"] for node in (hub, ada)]
        own = await ask(host, peer, {"own": True})
        assert own["record"]["id"] == ids[0], own
        print(f"it is the node of {ids[0]}")

        found = await look_up(host, peer, ids[1])
        assert found["id"] == ids[1], found
        assert found["peer_key"] != own["record"]["peer_key"], found
        print(f"its table has the record of {ids[1]}")


def main() -> int:
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as home:
        nodes = [Node(program, pathlib.Path(home) / "hub")]
        try:
            nodes.append(Node(program, pathlib.Path(home) / "ada", f"p2p.bootstrap={nodes[0].address()}"))
            nodes[1].published()
            with_deadline = trio.fail_after(PATIENCE)

            async def talk() -> None:
                with with_deadline:
                    await converse(*nodes)

            trio.run(talk)
        finally:
            for node in nodes:
                node.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
