"""Signatures of requests between nodes, and whether a signed request came before. Pure.

The secret is derived from the master key. A signature covers the request's name, the node that asks, the
node that is asked and its process, the log, the time, a number that is used once, and the digest of the
body. It is checked before the body is read. Answers are signed too, for the request's number.

Each asking process numbers its requests. Of each process, the highest number and which of the numbers
below it came are kept, as IPsec does (RFC 4303, 3.4.3). A process that is not known must be of now, by
its clock; one is forgotten when none of its requests could pass as new any more.
"""

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b, sha256
from typing import Final

import msgspec

PURPOSE: Final = "requests of nodes"
"""What the secret is derived for (`seal.derive`)."""
NODES_PATH: Final = "/nodes/"
FROM, TO, LIFE, LOG, KEY, TIME, ONCE, DIGEST, MAC = (
    "huahuo-from", "huahuo-to", "huahuo-life", "huahuo-log", "huahuo-key", "huahuo-time", "huahuo-once",
    "huahuo-digest", "huahuo-mac",
)  # fmt: skip
_FORMS: Final = {
    FROM: re.compile(r"[A-Za-z0-9_-]{1,64}"),
    TO: re.compile(r"[A-Za-z0-9_-]{0,64}"),
    LIFE: re.compile(r"(?:[0-9a-f]{16})?"),
    LOG: re.compile(r"[A-Za-z0-9_-]{1,64}"),
    KEY: re.compile(r"[0-9a-f]{16}"),
    TIME: re.compile(r"[0-9]{1,15}"),
    ONCE: re.compile(r"[0-9a-f]{16}\.[0-9]{1,15}"),
    DIGEST: re.compile(r"[0-9a-f]{64}"),
    MAC: re.compile(r"[0-9a-f]{64}"),
}


class Head(msgspec.Struct, frozen=True):
    """What is signed of a request. `to` is empty if the asker does not know the node's name yet.

    `life`: a token of the process that is asked, empty if the asker does not know it yet.
    `once`: a token of the asking process, a dot, and a number that rises with each of its requests.
    """

    name: str
    from_: str
    to: str
    life: str
    log: str
    time_ms: int
    once: str
    digest: str

    @property
    def process(self) -> str:
        """The token of the asking process."""
        return self.once.partition(".")[0]

    @property
    def number(self) -> int:
        """The number of the request."""
        return int(self.once.partition(".")[2])


class Signer:
    """Signs and checks with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.mark = blake2b(secret, digest_size=8, person=b"huahuo nodes").hexdigest()
        """Tells whether two nodes have one secret, and nothing else of it."""

    def headers(self, head: Head) -> tuple[tuple[str, str], ...]:
        """The headers of a request."""
        return (
            (FROM, head.from_), (TO, head.to), (LIFE, head.life), (LOG, head.log), (KEY, self.mark),
            (TIME, str(head.time_ms)), (ONCE, head.once), (DIGEST, head.digest),
            (MAC, self._mac(_text(head))),
        )  # fmt: skip

    def signed(self, head: Head, mac: str) -> bool:
        """Whether `mac` is the signature of this head. Compared in constant time."""
        return hmac.compare_digest(self._mac(_text(head)), mac)

    def answer(self, once: str, status: int, body: bytes) -> str:
        """The signature of the answer to the request with this number."""
        return self._mac(f"huahuo answer 1\n{once}\n{status}\n{digest_of(body)}")

    def answered(self, once: str, status: int, body: bytes, mac: str) -> bool:
        """Whether `mac` is the signature of this answer. Compared in constant time."""
        return mac.isascii() and hmac.compare_digest(self.answer(once, status, body), mac)

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), sha256).hexdigest()


def read_head(name: str, header: Callable[[str], str | None]) -> tuple[Head, str, str] | None:
    """The head of a request, the mark of its key and its signature. None: a header is missing or has no form.

    `header`: the value of a header that came once.
    """
    found: dict[str, str] = {}
    for wanted, form in _FORMS.items():
        value = header(wanted)
        if value is None or not form.fullmatch(value):
            return None
        found[wanted] = value
    head = Head(
        name, found[FROM], found[TO], found[LIFE], found[LOG], int(found[TIME]), found[ONCE], found[DIGEST]
    )  # fmt: skip
    return head, found[KEY], found[MAC]


def digest_of(body: bytes) -> str:
    """The digest of a body, as headers have it."""
    return sha256(body).hexdigest()


def _text(head: Head) -> str:
    parts = (
        "huahuo nodes 1", "POST", NODES_PATH + head.name, head.from_, head.to, head.life, head.log,
        str(head.time_ms), head.once, head.digest,
    )  # fmt: skip
    return "\n".join(parts)


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
