"""What the lean client (`commander`) says to each system: its sign-in, its command, and what answers are."""

import json
import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from bench.clients.script import Step, text, upgrade

BODY: Final = "x" * 110
STREAM: Final = "EV"
"""JetStream's stream, and the key of the one in Redis."""


class Dialect(NamedTuple):
    """`command` makes the bytes of one command of a number; `success` and `error` are marks in answers."""

    hello: Sequence[Step]
    command: Callable[[int], bytes]
    success: bytes
    error: bytes


def huahuo(token: str, number: int, events: int) -> Dialect:
    """`publish` with ids, over a WebSocket. `events`: how many each command has."""
    rest = f',"stream":"group/bench","type":"tick","body":"{BODY}"}}'
    if events > 1:
        one = {"stream": "group/bench", "type": "tick", "fields": {"body": BODY}}
        rest = ',"events":{}}}'.format(json.dumps([one] * events, separators=(",", ":")))
    hello = {"action": "authenticate", "token": token, "window": 4096, "client": f"bench-{number}"}
    signed_in = (text(json.dumps(hello).encode()), b'"success":true')
    return Dialect(
        [upgrade(subprotocol="huahuo.v1"), signed_in],
        lambda n: text(b'{"action":"publish","id":"%d"%b' % (n, rest.encode())),
        b'"type":"success"',
        b'"type":"error"',
    )


def jetstream(_token: str, number: int, _events: int) -> Dialect:
    """A `PUB` whose answer says where the message is: JetStream's publish without waiting for each."""
    inbox, body = f"in.{number}".encode(), BODY.encode()
    config = {"name": STREAM, "subjects": ["u.*"], "storage": "file", "num_replicas": 1}
    asked = json.dumps(config).encode()
    return Dialect(
        [
            (b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %b 1\r\nPING\r\n' % inbox, b"PONG\r\n"),
            (b"PUB $JS.API.STREAM.CREATE.%b %b %d\r\n%b\r\n" % (STREAM.encode(), inbox, len(asked), asked),
             b'"created"'),
        ],
        lambda _n: b"PUB u.1 %b %d\r\n%b\r\n" % (inbox, len(body), body),
        b'"seq":',
        b'"error"',
    )  # fmt: skip


def redis(_token: str, _number: int, _events: int) -> Dialect:
    """`XADD` to one stream; the answer is the entry's id."""
    words = ("XADD", STREAM, "*", "type", "tick", "body", BODY)
    command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)
    return Dialect([(b"PING\r\n", b"+PONG\r\n")], lambda _n: command, b"$", b"-ERR")


def fastapi(_token: str, number: int, _events: int) -> Dialect:
    """`POST /publish` with an id, one request behind the other on a connection that is kept."""
    space = f"{number}-{secrets.token_hex(8)}"

    def command(n: int) -> bytes:
        said = {"id": f"{space}-{n}", "stream": "group/bench", "type": "tick", "body": BODY}
        body = json.dumps(said).encode()
        head = b"POST /publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)

    return Dialect([(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"}")], command, b" 200 OK", b" 500 ")


ALL: Final = {"huahuo": huahuo, "jetstream": jetstream, "redis": redis, "fastapi": fastapi}
