"""A token server and a small Graph of our own, over HTTP on 127.0.0.1, that behave as Microsoft's do.

    with token_server(key) as server:
        token = server.grant("a@example.com")         # a refresh token
        server.answers.append(Wrong(503))             # the next request fails like this
        server.inbox("a@example.com").append(mime)    # what Graph shows

Refresh tokens rotate on every use. The one before stays good until its successor, or an access token that
came with the successor, is used at this server or `used` is called; then it is refused for ever.
"""

import contextlib
import email
import email.utils
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import jwt

KEY = b"a key for the tokens of tests, 32+"
IMAP_SCOPE = "https://outlook.office.com/IMAP.AccessAsUser.All"
GRAPH_SCOPE = "https://graph.microsoft.com/Mail.Read"
CLIENT_ID = "9e5f94bc-e8a4-4e73-b8be-63364c29d753"


@dataclass
class Wrong:
    """An answer that goes wrong."""

    status: int = 503
    error: str = ""
    description: str = ""
    retry_after: str = ""
    hang: bool = False
    """Say nothing until the server stops."""


@dataclass
class Account:
    """A mailbox and what its grant may do."""

    email: str
    scopes: set[str]
    current: str
    previous: str = ""
    dead: bool = False
    inbox: list[bytes] = field(default_factory=list)
    junk: list[bytes] = field(default_factory=list)
    archive: list[bytes] = field(default_factory=list)
    days_old: int = 0

    def folder(self, name: str) -> list[bytes] | None:
        """The mails of a folder by its name at Graph, None if there is none."""
        return {"inbox": self.inbox, "junkemail": self.junk, "folder/archive=": self.archive}.get(name)


def _listed(mail: bytes) -> dict[str, Any]:
    """What a listing says of a mail besides its id and time."""
    said = email.message_from_bytes(mail)
    name, address = email.utils.parseaddr(said["From"])
    return {
        "subject": said["Subject"],
        "from": {"emailAddress": {"name": name, "address": address}},
        "internetMessageId": said["Message-ID"],
        "hasAttachments": False,
    }


class TokenServer:
    """See the module."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.answers: deque[Wrong | None] = deque()
        """What happens to the next requests for tokens; None: all is well."""
        self.graph_answers: deque[Wrong | None] = deque()
        self.requests: list[dict[str, str]] = []
        """The forms that were posted, oldest first."""
        self.reads: list[str] = []
        """The paths that were asked of Graph."""
        self.lifetime_s = 3600
        self.rotate = True
        self.page_mails = 2
        self.delta = True
        self.links = True
        self.device_state = "authorization_pending"
        self.accounts: dict[str, Account] = {}
        self.released = threading.Event()
        self.asked = threading.Event()
        self.held = threading.Event()
        """Clear it, and answers with tokens wait for it: the tokens are made, and nobody has them."""
        self.held.set()
        self._lock = threading.Lock()
        self._count = 0
        self.port = 0
        self.scheme = "http"
        self.host = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def grant(self, email: str, *scopes: str) -> str:
        """A refresh token for a mailbox, for these scopes (IMAP where none is given)."""
        with self._lock:
            token = self._fresh("refresh")
            inbox = self.accounts[email].inbox if email in self.accounts else []
            self.accounts[email] = Account(email, set(scopes or (IMAP_SCOPE,)), token, inbox=inbox)
            return token

    def inbox(self, email: str) -> list[bytes]:
        """The mails that Graph shows of a mailbox, oldest first."""
        return self.accounts[email].inbox

    def used(self, email: str) -> None:
        """The newest tokens are used: those before are refused from now on."""
        self.accounts[email].previous = ""

    def access_token(self, email: str, scope: str = IMAP_SCOPE, lifetime_s: float | None = None) -> str:
        now = int(time.time())
        claims = {
            "email": email,
            "sub": email,
            "iat": now - 5,
            "exp": now + int(self.lifetime_s if lifetime_s is None else lifetime_s),
            "scp": scope,
            "n": self._fresh("access"),
        }
        return jwt.encode(claims, self.key, algorithm="HS256")

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"canary-{kind}-token-{self._count}"

    # Called by the handler's threads.

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any], str]:
        with self._lock:
            self.requests.append(form)
            self.asked.set()
            wrong = self.answers.popleft() if self.answers else None
        if wrong is not None:
            return self._wrong(wrong)
        with self._lock:
            if form["grant_type"] != "refresh_token":
                return self._device(form)
            sent = form.get("refresh_token", "")
            owner = next(
                (a for a in self.accounts.values() if sent in (a.current, a.previous) and sent), None
            )
            if owner is None or owner.dead or form.get("client_id") != CLIENT_ID:
                return (
                    400,
                    {"error": "invalid_grant", "error_description": f"AADSTS700082 {sent} is dead"},
                    "",
                )
            asked = set(form.get("scope", "").split()) - {"offline_access"}
            if "https://graph.microsoft.com/.default" in asked:
                asked = {GRAPH_SCOPE}
            if asked and not asked <= owner.scopes:
                return 400, {"error": "invalid_scope", "error_description": "AADSTS70011: the scope"}, ""
            if self.rotate:
                if sent == owner.current:
                    owner.previous = owner.current
                owner.current = self._fresh("refresh")
            return 200, self._tokens(owner, " ".join(asked or owner.scopes)), ""

    def _tokens(self, owner: Account, scope: str) -> dict[str, Any]:
        return {
            "token_type": "Bearer",
            "access_token": self.access_token(owner.email, scope),
            "expires_in": self.lifetime_s,
            "scope": scope,
            **({"refresh_token": owner.current} if self.rotate else {}),
        }

    def _device(self, form: dict[str, str]) -> tuple[int, dict[str, Any], str]:
        if "device_code" not in form:
            return (
                200,
                {
                    "device_code": "canary-device-code",
                    "user_code": "ABCD-EFGH",
                    "verification_uri": "https://microsoft.com/devicelogin",
                    "expires_in": 900,
                    "interval": 1,
                },
                "",
            )
        owner = self.accounts.get(self.device_state)
        if owner is None:
            return 400, {"error": self.device_state, "error_description": "not yet"}, ""
        return 200, self._tokens(owner, IMAP_SCOPE), ""

    def graph(self, path: str, query: dict[str, str], authorization: str) -> tuple[int, Any, str]:
        with self._lock:
            self.reads.append(path)
            wrong = self.graph_answers.popleft() if self.graph_answers else None
        if wrong is not None:
            return self._wrong(wrong)
        try:
            claims = jwt.decode(authorization.removeprefix("Bearer "), self.key, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            return 401, {"error": {"code": "InvalidAuthenticationToken", "message": str(error)}}, ""
        if GRAPH_SCOPE not in claims["scp"]:
            return 403, {"error": {"code": "ErrorAccessDenied", "message": "access is denied"}}, ""
        owner = self.accounts[claims["email"]]
        self.used(owner.email)
        parts = [unquote(part) for part in path.split("/") if part]
        if parts == ["graph", "me", "mailFolders"]:
            named = [("AQ=", "Inbox"), ("AR=", "Junk Email"), ("folder/archive=", "Archive")]
            return 200, {"value": [{"id": number, "displayName": name} for number, name in named]}, ""
        if parts[:3] == ["graph", "me", "mailFolders"] and owner.folder(parts[3]) is not None:
            if parts[-1] == "delta" and not self.delta:
                return 404, {"error": {"code": "ResourceNotFound", "message": "no delta"}}, ""
            return 200, self._page(owner, path, query, parts[3], delta=parts[-1] == "delta"), ""
        if parts[:3] == ["graph", "me", "messages"] and parts[4] == "$value":
            folder, _, number = parts[3].rpartition("=")
            mails = owner.folder(folder.rpartition("#")[2]) or []
            if int(number) >= len(mails):
                return 404, {"error": {"code": "ErrorItemNotFound"}}, ""
            return 200, mails[int(number)], ""
        return 404, {"error": {"code": "ErrorItemNotFound", "message": path}}, ""

    def _page(
        self, owner: Account, path: str, query: dict[str, str], folder: str, *, delta: bool
    ) -> dict[str, Any]:
        mails = owner.folder(folder) or []
        day = datetime.fromtimestamp(time.time() - 86_400 * owner.days_old, UTC)
        first = int(query.get("$skiptoken", query.get("$deltatoken", "0")))
        last = min(first + self.page_mails, len(mails))
        numbers = range(first, last) if delta else [len(mails) - 1 - n for n in range(first, last)]
        value = [
            {
                "id": f"AAk/{owner.email}#{folder}={n}",
                "receivedDateTime": f"{day:%Y-%m-%dT%H}:{n % 60:02d}:00Z",
                **_listed(mails[n]),
            }
            for n in numbers
        ]
        page: dict[str, Any] = {"value": value}
        if last < len(mails):
            page["@odata.nextLink"] = f"{self.url}{path}?$skiptoken={last}"
        elif delta and self.links:
            page["@odata.deltaLink"] = f"{self.url}{path}?$deltatoken={last}"
        return page

    def _wrong(self, wrong: Wrong) -> tuple[int, dict[str, Any], str]:
        if wrong.hang:
            self.released.wait(60)
        body = {"error": wrong.error, "error_description": wrong.description} if wrong.error else {}
        return wrong.status, body, wrong.retry_after


@contextlib.contextmanager
def token_server(key: bytes = KEY, *, tls: ssl.SSLContext | None = None) -> Iterator[TokenServer]:
    """Start one on a free port, stop it at the end."""
    server = TokenServer(key)
    server.scheme = "http" if tls is None else "https"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            form = {name: values[0] for name, values in parse_qs(text).items()}
            if urlsplit(self.path).path.endswith("/devicecode"):
                form.setdefault("grant_type", "")
            answer = server.token(form)
            server.held.wait(60)
            self._answer(*answer)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self._answer(*server.graph(parts.path, query, self.headers.get("Authorization", "")))

        def _answer(self, status: int, body: Any, retry_after: str) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            with contextlib.suppress(OSError):
                self.send_response(status)
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    server.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.held.set()
        http.shutdown()
        http.server_close()
        thread.join()
