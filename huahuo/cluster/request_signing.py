"""Signatures of requests between nodes, and whether a signed request came before. Pure.

The secret is derived from the master key. A signature covers the request's name, the node that asks, the
node that is asked and its process, the log, the time, a number that is used once, and the digest of the
body. It is checked before the body is read. Answers are signed too, for the request's number.

Each asking process numbers its requests. Of each process, the highest number and which of the numbers
below it came are kept, as IPsec does (RFC 4303, 3.4.3). A process that is not known must be of now, by
its clock; one is forgotten when none of its requests could pass as new any more.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from hashlib import blake2b, sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta

PURPOSE: Final = "requests of nodes"
"""What the secret is derived for (`seal.derive`)."""
NODES_PATH: Final = "/nodes/"
HEADER, MAC = "huahuo-node", "huahuo-mac"
"""Of a request, and of its answer."""
type _Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
type _Token = Annotated[str, Meta(pattern=r"^([0-9a-f]{16})?$")]


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What is signed of a request. `to` is empty if the asker does not know the node's name yet.

    `life`: a token of the process that is asked, empty if the asker does not know it yet. `key`: see
    `Signer.mark`. `process`: a token of the asking one. `number` rises with each of its requests.
    """

    name: str
    from_: _Name
    to: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{0,64}$")]
    life: _Token
    log: _Name
    key: _Token
    time_ms: int
    process: _Token
    number: Annotated[int, Meta(ge=0)]
    digest: str


class Signer:
    """Signs and checks with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.mark = blake2b(secret, digest_size=8, person=b"huahuo nodes").hexdigest()
        """Tells whether two nodes have one secret, and nothing else of it."""

    def header(self, head: Head) -> str:
        """The value of the header of a request."""
        text = urlsafe_b64encode(msgspec.msgpack.encode(head)).decode()
        return f"{text}.{self._mac(text)}"

    def signed(self, header: str) -> bool:
        """Whether the header of a request has its signature. Compared in constant time."""
        text, _, mac = header.rpartition(".")
        return header.isascii() and hmac.compare_digest(self._mac(text), mac)

    def answer(self, head: Head, status: int, body: bytes) -> str:
        """The signature of the answer to this request."""
        return self._mac(f"huahuo answer 1\n{head.process}.{head.number}\n{status}\n{digest_of(body)}")

    def answered(self, head: Head, status: int, body: bytes, mac: str) -> bool:
        """Whether `mac` is the signature of this answer. Compared in constant time."""
        return mac.isascii() and hmac.compare_digest(self.answer(head, status, body), mac)

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), sha256).hexdigest()


def read_head(header: str | None) -> Head | None:
    """The head of a request, which may be signed or not. None: it has no form."""
    try:
        return msgspec.msgpack.decode(urlsafe_b64decode((header or "").partition(".")[0]), type=Head)
    except (ValueError, msgspec.MsgspecError):
        return None


def digest_of(body: bytes) -> str:
    """The digest of a body."""
    return sha256(body).hexdigest()


WINDOW_MS: Final = 900_000
"""How far the clocks of two nodes may be apart: more than a clock that is five minutes off."""
BEHIND_MAX: Final = 1024
"""Requests of a process that may overtake one."""
PROCESSES_MAX: Final = 10_000


class Replays:
    """Whether a signed request came before."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, int, float]] = OrderedDict()
        """By process: its highest number, which of the last ones came, and when (`monotonic_s`)."""

    def __len__(self) -> int:
        return len(self._known)

    def is_new(self, process: str, number: int, now_s: float) -> bool:
        """Note a request. False: it came before, or is too old to tell."""
        self._forget(now_s)
        highest, came, _ = self._known.get(process, (0, 0, 0.0))
        if number > highest:
            moved = number - highest
            came = (came << moved | 1) & ((1 << BEHIND_MAX) - 1) if moved < BEHIND_MAX else 1
            highest = number
        else:
            bit = 1 << (highest - number)
            if highest - number >= BEHIND_MAX or came & bit:
                return False
            came |= bit
        self._known[process] = (highest, came, now_s)
        self._known.move_to_end(process)
        return True

    def _forget(self, now_s: float) -> None:
        """A request that was signed at `t` passes until `t` + 2 windows, by the clock that is most behind."""
        while self._known:
            process, (_, _, at_s) = next(iter(self._known.items()))
            if now_s - at_s <= 2 * WINDOW_MS / 1000 and len(self._known) < PROCESSES_MAX:
                return
            del self._known[process]
