"""`Publisher`: publish to a running service, and send commands, from any thread of any process.

publisher = Publisher("http://127.0.0.1:8765", token)
publisher.publish("user/42", "parcel_seen", {"order_id": 7})
"""

import http.client
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from huahuo.actors.domain.decision import Refused
from huahuo.at import At
from huahuo.errors import ConfigError, Unknown
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.publisher.asking import bearer, body_of, key_of, listed, one
from huahuo.publisher.exchange import NOBODY, Exchange
from huahuo.publisher.job import LEASE_S, RemoteJob, UserId
from huahuo.publisher.outcome import Again, Done, NewToken, Refuse, outcome_of, wait_s
from huahuo.publisher.tracing import traced

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
            if isinstance(found, NewToken):
                if renewed or isinstance(self._token, str):
                    found = found.refuse
                else:
                    renewed = True
                    continue
            if isinstance(found, Refuse):
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
    ) -> Done | Refuse | Again | NewToken:
        token = self._token if isinstance(self._token, str) else self._token()
        signed = {**headers, "Authorization": bearer(token)}
        try:
            answer = self._exchange.post(path, signed, body, max(_LEAST_S, min(_ATTEMPT_S, left_s)))
        except (OSError, http.client.HTTPException) as error:
            return Again(f"{error.__class__.__name__}: {error}", was_sent=not isinstance(error, NOBODY))
        return outcome_of(*answer)


def _at(said: Mapping[str, Any]) -> At:
    return At(said["at"]["stream"], said["at"]["seq"])
