"""A request and its answer, as every shell of the room gives and takes them. Pure."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import msgspec

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
NO_STORE = "no-store"
_PARAMETERS_MAX = 32

_ABSOLUTE = re.compile(r"https?://(?P<authority>[^/?#@]+)(?=[/?]|$)", re.IGNORECASE)

type Headers = tuple[tuple[str, str], ...]
type RawHeaders = Sequence[tuple[bytes, bytes]]


class Request(msgspec.Struct, frozen=True):
    """A request without its body. Names of headers are lower case; `peer` is the socket's address.

    `path` is decoded and begins with a slash. A parameter that comes twice has its last value. `root`: the
    decoded path at which the service is mounted; "", or without a slash at its end.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Headers
    peer: str = ""
    root: str = ""

    @classmethod
    def of(cls, method: str, target: str, headers: RawHeaders, peer: str) -> "Request":
        """From a request line's target. Raises ValueError: it is not usable."""
        target, headers = origin_form(target, headers)
        path, _, query = target.partition("?")
        if not path.startswith("/") and (method, target) != ("OPTIONS", "*"):
            raise ValueError("the target is no path")
        return cls.at(method, unquote(path, errors="strict"), query, headers, peer)

    @classmethod
    def at(
        cls, method: str, path: str, query: str, headers: RawHeaders, peer: str, root: str = ""
    ) -> "Request":
        """From a decoded path. Raises ValueError: the query has too many parameters or is no UTF-8."""
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX)
        named = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
        return cls(method, path, dict(pairs), named, peer, root)

    def all(self, name: str) -> list[str]:
        """The values of a header that may come more than once."""
        return [value for known, value in self.headers if known == name]

    def header(self, name: str) -> str | None:
        """The value of a header, None if there is none, or if it is said more than once."""
        values = self.all(name)
        return values[0].strip() if len(values) == 1 else None

    def joined(self, name: str) -> str | None:
        """What a header says; different values of it are joined, so that none is passed over."""
        return ", ".join(dict.fromkeys(value.strip() for value in self.all(name))) or None

    @property
    def is_upgrade(self) -> bool:
        """Whether a WebSocket is asked for."""
        named = (item.strip().lower() for value in self.all("upgrade") for item in value.split(","))
        return self.method == "GET" and "websocket" in named

    @property
    def framed_twice(self) -> bool:
        """Whether two headers say where the body ends. A proxy in front may have believed the other one."""
        names = {name for name, _value in self.headers}
        return "transfer-encoding" in names and "content-length" in names

    def accepts(self, content_type: str) -> bool:
        """Whether this type is named in `Accept`, without a wild card."""
        named = (item for value in self.all("accept") for item in value.split(","))
        return content_type in (item.partition(";")[0].strip().lower() for item in named)


def origin_form(target: str, headers: RawHeaders) -> tuple[str, RawHeaders]:
    """The target as a path, and the headers. A whole URL names the host itself (RFC 9112, 3.2.2)."""
    found = _ABSOLUTE.match(target)
    if found is None:
        return target, headers
    rest = target[found.end() :]
    path = rest if rest.startswith("/") else f"/{rest}"
    kept = [(name, value) for name, value in headers if name.lower() != b"host"]
    return path, [(b"host", found["authority"].encode("ascii")), *kept]


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. The shell adds `Content-Length`, and `Date` where its server does not.

    `hold_s`: the answer is held back for this long. `ends`: the connection is closed after it.
    `is_refusal`: it is a problem of the service, whose detail is a text of the catalogue.
    """

    status: HTTPStatus
    headers: Headers = ()
    body: bytes = b""
    hold_s: float = 0.0
    ends: bool = False
    is_refusal: bool = False

    def adding(self, headers: Headers) -> "Answer":
        """The same with more headers. There is one `Vary`, since some caches read the last one only."""
        if not headers:
            return self
        varies = [value for name, value in (*self.headers, *headers) if name == "Vary"]
        if len(varies) > 1:
            others = [one for one in (*self.headers, *headers) if one[0] != "Vary"]
            headers = (*others, ("Vary", ", ".join(dict.fromkeys(varies))))
            return msgspec.structs.replace(self, headers=headers)
        return msgspec.structs.replace(self, headers=(*self.headers, *headers))


def json_answer(body: bytes, headers: Headers = (), status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """An answer of JSON that nobody may keep, unless `headers` say so."""
    cached = any(name == "Cache-Control" for name, _ in headers)
    keep = () if cached else (("Cache-Control", NO_STORE),)
    return Answer(status, (("Content-Type", JSON), *keep, *headers), body)


NO_CONTENT = Answer(HTTPStatus.NO_CONTENT, (("Cache-Control", NO_STORE),))
