"""What the scope of an ASGI server says of a request: its path below the mount, its headers. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from huahuo.transport.http.messages import origin_form

type Scope = Mapping[str, Any]


def path_of(scope: Scope) -> str:
    """The path below the place where the application is mounted. Some frameworks add or drop a slash."""
    path, _ = origin_form(str(scope["path"]), ())  # some servers hand on a whole URL
    root = str(scope.get("root_path") or "").rstrip("/")
    while root and not (path == root or path.startswith(f"{root}/")):
        # A proxy took the beginning of the root away, which the application was told to be below.
        root = root[root.find("/", 1) :] if "/" in root[1:] else ""
    return "/" + path[len(root) :].strip("/")


def must_be_utf8(scope: Scope) -> None:
    """Raises UnicodeDecodeError: the path is no UTF-8, for which servers put U+FFFD."""
    if "\ufffd" in scope["path"]:
        raw = bytes(scope.get("raw_path") or b"").partition(b"?")[0]  # some servers leave the query in it
        unquote(raw.decode("ascii"), errors="strict")


def root_of(scope: Scope) -> str:
    """Where the application is mounted, without a slash at the end."""
    root = str(scope.get("root_path") or "").rstrip("/")
    return root or _taken_away(scope)


def _taken_away(scope: Scope) -> str:
    """The beginning of the path that a framework took away without naming it (Litestar does)."""
    raw, rest = scope.get("raw_path"), "/" + str(scope["path"]).strip("/")
    if not raw:
        return ""
    # Some servers leave the query in it. With two slashes first, a `Location` would be another host.
    whole, _ = origin_form(unquote(bytes(raw).partition(b"?")[0].decode("latin-1")), ())
    whole = f"/{whole.lstrip('/')}".rstrip("/")
    if rest == "/":
        return whole
    return whole.removesuffix(rest).rstrip("/") if whole.endswith(rest) else ""


def all_of(scope: Scope, name: bytes) -> list[str]:
    """The values of a header."""
    return [value.decode("latin-1") for known, value in scope["headers"] if known.lower() == name]


def peer_of(scope: Scope) -> str:
    """The address of the other side."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def head_bytes(scope: Scope) -> int:
    """The size of a request's headers."""
    return sum(len(name) + len(value) for name, value in scope["headers"])


def one_at_a_time(scope: Scope) -> bool:
    """Whether a connection has one request at a time, and a header that ends it."""
    return str(scope.get("http_version", "1.1")).startswith("1.")


def has_body(scope: Scope) -> bool:
    """Whether the head announces a body."""
    return any(
        name.lower() == b"transfer-encoding" or (name.lower() == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )
