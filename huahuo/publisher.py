"""`Publisher`: publish to a running service, and send commands, from any thread of any process.

    publisher = Publisher("http://127.0.0.1:8765", token)
    publisher.publish("user/42", "parcel_seen", {"order_id": 7})

For Flask, Django, Celery, RQ, cron, a shell. It loads no part of the service: neither storage, nor mail,
nor an event loop. Connections stay open: one for each thread, none shared with a forked child. Values
that are no JSON are sent as the service writes those of its own process: times and UUIDs as texts, bytes
as base64, sets as lists, dataclasses as objects. A program that traces with OpenTelemetry is traced; any
other pays a look into a dict.

`RemoteJob` is a job of this process: the block's end is the job's end: `done`, `failed` after an
exception (which goes on), `cancelled` after `cancel_job`. Meanwhile a thread tells the service that this
process is there. Of a task of a queue, what is reported goes to the queue's own record too.
"""

import http.client
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import msgspec

from huahuo.actors.domain.structs import Refused
from huahuo.at import At
from huahuo.errors import ConfigError, HuahuoError, JobCancelled, Unknown
from huahuo.eventstore.ambient import SystemAmbient

_KEY_CHARS_MAX = 64


def listed(events: Iterable[object]) -> list[dict[str, Any]]:
    """The events of one commit, each (stream, type, fields). Raises Refused."""
    found: list[dict[str, Any]] = []
    for at, event in enumerate(events):
        if not isinstance(event, tuple | list) or len(event) != len(("stream", "type", "fields")):
            raise Refused(
                "invalid_field", f"events[{at}]: write (stream, type, fields), with {{}} for no fields"
            )
        found.append(one(*event))
    return found


def one(stream: str, type_: str, fields: object) -> dict[str, Any]:
    """One event. Raises Refused."""
    if fields is not None and not isinstance(fields, Mapping):
        raise Refused("invalid_field", f"fields of {type_}: must be a mapping of names to values")
    return {"stream": stream, "type": type_, "fields": dict(fields or {})}


def body_of(content: object) -> bytes:
    """The body of a request. Raises Refused: it cannot be written as JSON."""
    try:
        return json.dumps(content, allow_nan=False, default=msgspec.to_builtins).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused("invalid_field", f"a field cannot be written as JSON: {error}") from error


def key_of(command_id: str) -> str:
    """The id of a command, as a header may have it. Raises Refused."""
    key = str(command_id)
    if (
        not 1 <= len(key) <= _KEY_CHARS_MAX
        or not key.isascii()
        or not key.isprintable()
        or key.strip() != key
    ):
        raise Refused(
            "invalid_field", f"command_id: 1 to {_KEY_CHARS_MAX} printable characters of ASCII are needed"
        )
    return key


def bearer(token: object) -> str:
    """The header of a token, without the line's end that files and shells leave behind it.

    Raises Refused, with a message that does not show it.
    """
    text = token.strip() if isinstance(token, str) else ""
    if not text or not text.isascii() or not text.isprintable():
        raise Refused("token_invalid", "the token is no text of printable ASCII")
    return f"Bearer {text}"


NOBODY: Final = (ConnectionRefusedError, socket.gaierror)
"""No connection was made, so nothing can have been sent."""
_ANSWER_BYTES_MAX: Final = 32 << 20

type Answer = tuple[int, Mapping[str, str], bytes]


class _Kept:
    """A connection that is closed when its thread, or its publisher, is gone."""

    __slots__ = ("connection", "pid")

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection
        self.pid = os.getpid()

    def __del__(self) -> None:
        self.connection.close()


class Exchange:
    """HTTP requests on connections that stay open: one for each thread, none shared with a forked child.

    `url` is that of the service, with the path where it is mounted.

    Raises:
        ConfigError: it is no `http://…` or `https://…`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"url: {url!r} is no address of a service, such as http://127.0.0.1:8765")
        self.at = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        """The address as it may be shown: without a password."""
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._mine = threading.local()

    def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        """Send one request and read its answer.

        A connection that the service closed while it was idle is replaced once. Raises OSError or
        http.client.HTTPException: nobody knows what became of the request.
        """
        kept, lost = self._kept(), None
        if kept is not None:
            try:
                return self._on(kept, path, headers, body, timeout_s)
            except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest) as error:
                self.drop()
                lost = error
        try:
            return self._on(self._opened(timeout_s), path, headers, body, timeout_s)
        except NOBODY as error:
            if lost is None:
                raise
            raise lost from error  # the service may have been ended between the request and its answer

    def drop(self) -> None:
        """Close this thread's connection."""
        self._mine.kept = None

    def _kept(self) -> http.client.HTTPConnection | None:
        kept: _Kept | None = getattr(self._mine, "kept", None)
        if kept is None:
            return None
        if kept.pid != os.getpid():
            self._mine.kept = None  # the parent's: closing our copy of the socket leaves it open there
            return None
        return kept.connection

    def _opened(self, timeout_s: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        opened = kind(self._host, self._port, timeout=timeout_s)
        self._mine.kept = _Kept(opened)
        return opened

    def _on(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Answer:
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        try:
            connection.request("POST", self._path + path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            said = answer.read(_ANSWER_BYTES_MAX)
        except BaseException:
            self.drop()
            raise
        if answer.will_close or answer.status == HTTPStatus.REQUEST_TIMEOUT:
            self.drop()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, said


LEASE_S: Final = 60.0
_KEPT_EVERY: Final = 4
"""Times in each lease that the service is told that this process is there."""

type UserId = int | str


type Record = Callable[[float, str], object]
"""Keeps a progress where a queue's own tools look for it."""


class RemoteJob:
    """A job of this process, told to the service: `with publisher.job("import", user=42) as job`.

    Made by `Publisher.job`.

    After a cancel, the next `progress` or `message` raises JobCancelled, which ends the block silently. A
    block that looks at `cancelled` ends by itself. `record`: of a task of a queue.
    """

    def __init__(
        self,
        publisher: "Publisher",
        name: str,
        user: UserId | None,
        lease_s: float = LEASE_S,
        record: Record | None = None,
    ) -> None:
        self._publisher = publisher
        self._record = record
        self._begin: dict[str, Any] = {"name": name, "user": user, "lease_s": lease_s}
        self._lease_s = lease_s
        self._id = 0
        self._cancelled = False
        self._asked = False
        self._over = threading.Event()
        self.outcome: str | None = None
        """How it ended, None while it runs."""

    @property
    def id(self) -> int:
        """Its number; 0 before it began."""
        return self._id

    @property
    def stream(self) -> str:
        """Where it can be followed: `job/7`."""
        return f"job/{self._id}"

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled. It is heard with each report, and a few times in each lease."""
        self._asked = True
        return self._cancelled

    def progress(self, percent: float, message: str = "") -> None:
        """Say how far it is, 0 to 100. Raises JobCancelled, and as `Publisher.send`."""
        self._tell(percent=percent, message=message)
        if self._record is not None:
            self._record(percent, message)

    def steps(self, items: Any, total: int | None = None) -> Any:
        """Give the items one by one, and report how many are done. `total`: where `len` says nothing."""
        count = len(items) if total is None else total
        for number, item in enumerate(items):
            self.progress(100 * number / count, f"{number} of {count}")
            yield item
        self.progress(100, f"{count} of {count}")

    def message(self, text: str) -> None:
        """Say something to those who watch. Raises JobCancelled, and as `Publisher.send`."""
        self._tell(message=text)

    def fail(self, message: str) -> None:
        """End it as failed, with a text for those who watch. Nothing is raised in the block."""
        self._end("failed", message=message)

    def __enter__(self) -> Self:
        if self._id:
            raise HuahuoError("a job begins once: ask the publisher for another one")
        self._id = self._publisher.send("begin_remote_job", **self._begin)["job_id"]
        threading.Thread(target=self._keep, name=f"huahuo {self.stream}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._over.set()
        ours = isinstance(error, JobCancelled) and self._cancelled
        try:
            if error is None or ours:
                self._end("cancelled" if self._cancelled else "done")
            elif isinstance(error, Exception):
                self._end("failed", error=type(error).__name__)
            else:
                self._end("interrupted")
        except (Refused, Unknown):
            if error is None:
                raise
        return ours

    def _tell(self, **said: Any) -> None:
        if not self._id:
            raise HuahuoError("the job has not begun: write `with publisher.job(…) as job`")
        if self._cancelled and not self._asked:
            raise JobCancelled(self.stream)
        self._heard(self._sent(**said))
        if self._cancelled and not self._asked:
            raise JobCancelled(self.stream)

    def _sent(self, **said: Any) -> dict[str, Any]:
        return self._publisher.send("tell_remote_job", job_id=self._id, lease_s=self._lease_s, **said)

    def _heard(self, reply: dict[str, Any]) -> None:
        if reply.get("status") == "cancelling":
            self._cancelled = True

    def _end(self, outcome: str, **more: str) -> None:
        self._over.set()
        if self.outcome is None:
            said = self._publisher.send("end_remote_job", job_id=self._id, outcome=outcome, **more)
            self.outcome = str(said["status"])

    def _keep(self) -> None:
        """Tell the service that this process is there, until the block ends."""
        while not self._over.wait(self._lease_s / _KEPT_EVERY):
            try:
                self._heard(self._sent())
            except Unknown:
                continue  # the service is away; a lease that runs out meanwhile is renewed at its start
            except Refused:
                return  # it has ended: the block hears so when it says something


_FIRST_S: Final = 0.1
_LONGEST_S: Final = 5.0
_WHY_CHARS_MAX: Final = 300
_AGAIN: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""After these the same command id may be sent again (PROTOCOL 6), or a proxy spoke and not the service."""


@dataclass(frozen=True, slots=True)
class Done:
    """It took effect, now or before. `said` is the reply."""

    said: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refuse:
    """It had no effect and never will."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Again:
    """Nobody knows yet. `after_s`: what the service asks to wait; `why` is for people.

    `was_sent`: some of the request may have reached somebody.
    """

    why: str
    after_s: float = 0.0
    was_sent: bool = True


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Done | Refuse | Again:
    """The meaning of an answer."""
    said = _object(body)
    if status == HTTPStatus.OK and said is not None:
        return Done(said)
    if status in _AGAIN:
        why = _why(said, headers, body)
        return Again(f"the service answered {status}{why}", _seconds(headers.get("retry-after", "")))
    if said is None or not isinstance(said.get("code"), str):
        return Refuse("not_understood", f"answered {status} by something that is no huahuo service")
    return Refuse(said["code"], str(said.get("detail", "")))


def wait_s(attempt: int, chance: float) -> float:
    """How long to wait before an attempt (the first one again is 1). `chance`: in [0, 1)."""
    return min(_LONGEST_S, _FIRST_S * 2.0 ** min(attempt, 10)) * chance


def _why(said: Mapping[str, Any] | None, headers: Mapping[str, str], body: bytes) -> str:
    """The reason in an answer: of the service itself, or of a node that joins, which has text only."""
    if said is not None:
        told = str(said.get("detail", ""))
    elif headers.get("content-type", "").startswith("text/plain"):
        told = body[: 4 * _WHY_CHARS_MAX].decode("utf-8", "replace").strip()
    else:
        told = ""
    return f": {told[:_WHY_CHARS_MAX]}" if told.isprintable() and told else ""


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _seconds(text: str) -> float:
    return min(_LONGEST_S, float(text)) if text.isdecimal() else 0.0


def traced(action: str) -> AbstractContextManager[str] | None:
    """A span around one call, below the one that the caller is in. Its value is the command's id.

    None: the program does not trace, or this span is not recorded.
    """
    if (trace := sys.modules.get("opentelemetry.trace")) is None:
        return None
    if not trace.get_current_span().get_span_context().trace_flags.sampled:
        return None
    from huahuo.tracing.sending import sending

    return sending(action)


TIMEOUT_S: Final = 30.0
_ATTEMPT_S: Final = 10.0
_LEAST_S: Final = 0.05
_log = logging.getLogger("huahuo.publisher")

type Token = str | Callable[[], str]


class Publisher:
    """See the module. Safe for threads, and after a fork.

    `token`: a text, or a function that gives one and is asked again when the last one has ended. Each call is
    sent again under the same command id until its outcome is known, also while the service restarts. So it
    takes effect at most once.
    """

    def __init__(self, url: str, token: Token, timeout_s: float = TIMEOUT_S, *, client: str = "") -> None:
        """`client` names the space of command ids; without it, the user's requests share one.

        Raises:
            ConfigError: `url` is no address, or `token` neither a text nor a function.
        """
        if not isinstance(token, str) and not callable(token):
            raise ConfigError("token: a text, or a function that gives one, is needed")
        self._exchange = Exchange(url)
        self._token = token
        self._timeout_s = timeout_s
        self._client = client
        self._ambient = SystemAmbient()
        self._never = threading.Event()
        self._is_away = False
        """A warning has said that the service does not answer; until it does, no other one follows."""

    def publish(
        self,
        stream: str,
        type: str,  # noqa: A002  the wire's word
        fields: Mapping[str, Any] | None = None,
        *,
        command_id: str | None = None,
    ) -> At:
        """Append one event, and return where it is. Raises as `send`."""
        return _at(self._call("/publish", one(stream, type, fields), command_id))

    def publish_many(
        self, events: Iterable[tuple[str, str, Mapping[str, Any]]], *, command_id: str | None = None
    ) -> At:
        """Append (stream, type, fields) of at most 1,000 events in one commit. Raises as `send`."""
        return _at(self._call("/publish", listed(events), command_id))

    def send(self, action: str, /, *, command_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """Send a command, or a query, as the token's user, and return the reply.

        Raises:
            Refused: the service refused it, with its code and message.
            Unknown: the deadline passed, and nobody knows whether it took effect. With the same `command_id`
                it may be sent again.
        """
        return self._call(f"/commands/{quote(action, safe='')}", fields, command_id)

    def job(self, name: str, user: UserId | None = None, *, lease_s: float = LEASE_S) -> RemoteJob:
        """Work of this process that `user` watches on `job/<id>` and may cancel.

        Write `with publisher.job("import", user=42) as job`. The token must be an administrator's. If this
        process dies, the job ends as `interrupted` when nothing was heard of it for `lease_s` seconds.
        """
        return RemoteJob(self, name, user, lease_s)

    def close(self) -> None:
        """Close this thread's connection. A later call opens another one."""
        self._exchange.drop()

    def _call(self, path: str, content: object, command_id: str | None) -> dict[str, Any]:
        if command_id is None and (span := traced(path.removeprefix("/commands/").strip("/"))) is not None:
            with span as place:
                return self._called(path, content, place)
        return self._called(
            path, content, self._ambient.token() if command_id is None else key_of(command_id)
        )

    def _called(self, path: str, content: object, command_id: str) -> dict[str, Any]:
        body = body_of(content)
        headers = {
            "Content-Type": "application/json",
            "Accept-Language": "en",  # as every other exception
            "Idempotency-Key": command_id,
        }
        if self._client:
            headers["Huahuo-Client"] = self._client
        now_s = self._ambient.monotonic_s
        until_s = now_s() + self._timeout_s
        attempt, renewed, was_sent = 0, False, False
        while True:
            found = self._attempt(path, headers, body, until_s - now_s())
            if isinstance(found, Done):
                self._is_away = False
                return found.said
            if isinstance(found, Refuse):
                if found.code == "token_expired" and callable(self._token) and not renewed:
                    renewed = True
                    continue
                raise Refused(found.code, found.message)
            attempt += 1
            was_sent = was_sent or found.was_sent
            pause_s = max(found.after_s, wait_s(attempt, self._ambient.random()), _LEAST_S)
            left_s = until_s - now_s()
            if left_s <= pause_s:
                raise Unknown(self._given_up(path, found.why, was_sent=was_sent, key=command_id))
            if not self._is_away:
                self._is_away = True
                _log.warning(
                    "%s: %s; trying again, for %g s in all", self._exchange.at, found.why, self._timeout_s
                )
            self._never.wait(pause_s)

    def _given_up(self, path: str, why: str, *, was_sent: bool, key: str) -> str:
        after = f"after {self._timeout_s:g} s"
        if was_sent:
            return f"unknown {after} whether {path} took effect: {why} (command id {key})"
        return (
            f"{after} nobody has answered at {self._exchange.at}: {why}. Start the service there, or correct"
            f" the address; nothing was sent (command id {key})"
        )

    def _attempt(
        self, path: str, headers: Mapping[str, str], body: bytes, left_s: float
    ) -> Done | Refuse | Again:
        token = self._token if isinstance(self._token, str) else self._token()
        signed = {**headers, "Authorization": bearer(token)}
        try:
            answer = self._exchange.post(path, signed, body, max(_LEAST_S, min(_ATTEMPT_S, left_s)))
        except (OSError, http.client.HTTPException) as error:
            return Again(f"{error.__class__.__name__}: {error}", was_sent=not isinstance(error, NOBODY))
        return outcome_of(*answer)


def _at(said: Mapping[str, Any]) -> At:
    return At(said["at"]["stream"], said["at"]["seq"])
