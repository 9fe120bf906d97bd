"""Sign-in with a code that the user enters on another device (RFC 8628).

The caller keeps the time between polls.

Access tokens of mailboxes, in memory only. The refresh token behind them is sealed in the log.

    refresh token ──▶ token endpoint ──▶ access token, and mostly the next refresh token
                                              │ the next one is made durable first (I23)
                                              ▼
                                     the access token is used

A server that rotates refresh tokens gives up the old one when the new one, or the access token that came
with it, is used. So neither is used before the new one is durable: a crash at any moment leaves a token in
the log that the server accepts. Per mailbox one refresh runs at a time, and all who want a token wait for
it. A check that is cancelled does not end it, since its answer must not be lost. What is kept is compared
with what was sent (the generation), so of two processes only one replaces a token, and the other reads it.

Where several nodes share the log, a node claims the grant in the mailbox's stream before it asks. Another
one that wants a token waits for that, and reads the grant afterwards.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from typing import Final, Protocol

import msgspec
import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.entities.decider import EntityError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.events import Way
from huahuo.mailcheck.servers import faults
from huahuo.mailcheck.servers.graph import Requests, with_retries
from huahuo.mailcheck.servers.providers import Provider, Proxy

_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL_S: Final = 5.0
_INTERVAL_S_MAX: Final = 60.0
_LIFE_S: Final = 900.0
_LIFE_S_MAX: Final = 3600.0
_TEXT_CHARS_MAX: Final = 2_048
_OK: Final = 200
_PENDING: Final = "authorization_pending"
_SLOWER: Final = "slow_down"


class Code(msgspec.Struct, frozen=True):
    """A code that waits for its user, who opens `url` and enters `user_code`."""

    device_code: Secret
    user_code: str
    url: str
    interval_s: float
    life_s: float


class Waiting(msgspec.Struct, frozen=True):
    """The user has not entered the code. `slower`: the server wants fewer questions."""

    slower: bool


def scope_of(provider: Provider) -> str:
    """The scopes to ask for: those of IMAP, and a refresh token."""
    wanted = list(provider.scopes[0]) if provider.scopes else []
    return " ".join([*wanted, "openid", "profile"] if "offline_access" in wanted else wanted)


async def begin(
    requests: Requests, ambient: Ambient, provider: Provider, client_id: str, proxy: Proxy | None
) -> Code:
    """Ask for a code.

    Raises:
        MailFault: there is none, see `with_retries`.
    """
    fields = {"client_id": client_id}
    if scope := scope_of(provider):
        fields["scope"] = scope

    async def attempt() -> Code:
        return code_of(await requests.post_form(provider.devicecode_url, fields, proxy), ambient.now_ms())

    return await with_retries(ambient, attempt)


def code_of(answer: faults.Answer, now_ms: int) -> Code:
    """The code of an answer. Raises GrantRefused, HttpFailed."""
    fields = answer.json()
    device_code, user_code = fields.get("device_code"), fields.get("user_code")
    url = fields.get("verification_uri") or fields.get("verification_url")
    texts = (device_code, user_code, url)
    if answer.status != _OK or not all(
        isinstance(one, str) and 0 < len(one) <= _TEXT_CHARS_MAX for one in texts
    ):
        raise faults.refusal(answer, now_ms)
    if not str(url).startswith("https://"):
        raise faults.HttpFailed(answer.status, "the address of the sign-in page is none", passing=False)
    interval_s = faults.seconds_of(fields.get("interval"), _INTERVAL_S)
    return Code(
        Secret(str(device_code)),
        str(user_code),
        str(url),
        min(max(interval_s, 1.0), _INTERVAL_S_MAX),
        min(faults.seconds_of(fields.get("expires_in"), _LIFE_S), _LIFE_S_MAX),
    )


async def poll(
    requests: Requests, ambient: Ambient, provider: Provider, client_id: str, code: Code, proxy: Proxy | None
) -> faults.Issued | Waiting:
    """Ask once whether the user has entered the code.

    Raises:
        GrantRefused: the code has expired, or the user declined.
        MailFault: the server could not be asked. Another poll may do.
    """
    fields = {
        "grant_type": _GRANT_TYPE,
        "client_id": client_id,
        "device_code": code.device_code.reveal(),
    }
    if provider.client_secret:
        fields["client_secret"] = provider.client_secret
    answer = await requests.post_form(provider.token_url[0], fields, proxy)
    error, _ = faults.error_of(answer.json())
    if error in (_PENDING, _SLOWER):
        return Waiting(slower=error == _SLOWER)
    return faults.issued(answer, ambient.now_ms(), (code.device_code,))


RENEW_BEFORE_S: Final = 600.0
"""An access token is replaced this long before it ends, or in the middle of its life if that is shorter."""
CLAIMED_MAX_S: Final = 120.0
"""How long a node waits for another one that has claimed the grant. With all its tries a refresh at one
endpoint takes 37 s, and a node that ended counts as gone after 8 s."""
CLAIM_S_MAX: Final = 4.0
"""A claim that took longer is made again: a node that was silent for 8 s counts as gone, so another one may
hold the grant when the answer comes."""
_LOOK_S: Final = 0.5
_LEAVE_TRIES: Final = 3
TOKENS_MAX: Final = 20_000
"""Access tokens in memory, of about 3 KB each. The one not used for longest is forgotten first."""


_log = structlog.get_logger(__name__)


class Grant(msgspec.Struct, frozen=True):
    """What a mailbox signs in with. `generation` rises with each new refresh token."""

    generation: int
    client_id: str
    refresh_token: Secret
    way: Way = Way()
    provider: Provider | None = None
    """That of the mailbox when this was read. None: not known, so the one that is asked for."""


class Grants(Protocol):
    """The grants of mailboxes in the log."""

    async def read(self, email_id: int) -> Grant | None:
        """The grant, None if the mailbox has none."""
        ...

    async def keep(self, email_id: int, generation: int, way: Way, refresh_token: Secret | None) -> bool:
        """Make the way, and the next refresh token if there is one, durable.

        False: the grant was replaced.
        """
        ...

    async def claim(self, email_id: int) -> bool:
        """Keep other nodes from asking by this grant. False: one of them does."""
        ...

    async def leave(self, email_id: int) -> None:
        """Let other nodes ask by this grant. Idempotent."""
        ...


class Access(msgspec.Struct, frozen=True):
    """An access token, how it was got, and the generation of the refresh token that gets the next one."""

    token: Secret
    renew_at_s: float
    generation: int
    way: Way


class Tokens:
    """Access tokens of mailboxes, in memory only. The refresh token behind them is sealed in the log.

    All methods belong to the loop's thread.
    """

    def __init__(
        self, grants: Grants, requests: Requests, ambient: Ambient, *, kept_max: int = TOKENS_MAX
    ) -> None:
        self._kept_max = kept_max
        self._grants = grants
        self._requests = requests
        self._ambient = ambient
        self._kept: OrderedDict[tuple[int, bool], Access] = OrderedDict()
        self._refreshing: dict[tuple[int, bool], asyncio.Task[Access]] = {}
        self._of_mailbox: dict[int, asyncio.Task[Access]] = {}

    @property
    def kept(self) -> int:
        """How many access tokens are in memory."""
        return len(self._kept)

    async def get(
        self,
        email_id: int,
        provider: Provider,
        *,
        graph: bool,
        proxy: Proxy | None = None,
        refused: Secret | None = None,
    ) -> Access:
        """An access token for IMAP or for Graph. `refused`: one that the server did not accept.

        Raises:
            GrantRefused: the mailbox has no grant, or no endpoint accepts it. NoScope: not for this use.
            MailFault: no endpoint could be asked.
        """
        key = email_id, graph
        kept = self._kept.get(key)
        if kept is not None and kept.token != refused and self._ambient.monotonic_s() < kept.renew_at_s:
            grant = await self._grants.read(email_id)
            if grant is not None and grant.generation == kept.generation:
                self._kept.move_to_end(key)
                return kept
        task = self._refreshing.get(key)
        if task is None:
            before = self._of_mailbox.get(email_id)
            task = asyncio.create_task(
                self._refresh(email_id, provider, graph, proxy, before), name=f"token of mailbox {email_id}"
            )
            self._refreshing[key] = self._of_mailbox[email_id] = task
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def forget(self, email_id: int) -> None:
        """Drop the access tokens of a mailbox."""
        for graph in (False, True):
            self._kept.pop((email_id, graph), None)

    async def close(self, timeout_s: float) -> None:
        """Let refreshes end, whose answers must not be lost. Those that do not in time are cancelled."""
        tasks = list(self._refreshing.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._kept.clear()

    def _done(self, key: tuple[int, bool], task: asyncio.Task[Access]) -> None:
        del self._refreshing[key]
        if self._of_mailbox.get(key[0]) is task:
            del self._of_mailbox[key[0]]
        if not task.cancelled():
            task.exception()  # those who waited have seen it; nobody may be left to wait

    async def _refresh(
        self,
        email_id: int,
        provider: Provider,
        graph: bool,
        proxy: Proxy | None,
        before: asyncio.Task[Access] | None,
    ) -> Access:
        if before is not None:  # the same grant, for the other use
            await asyncio.wait([before])
        await self._claim(email_id)
        try:
            return await self._refresh_alone(email_id, provider, graph, proxy)
        finally:
            await self._leave(email_id)

    async def _claim(self, email_id: int) -> None:
        """Return when no other node asks by this grant."""
        last_s = self._ambient.monotonic_s() + CLAIMED_MAX_S
        while True:
            began_s = self._ambient.monotonic_s()
            is_ours = await self._grants.claim(email_id)
            now_s = self._ambient.monotonic_s()
            if is_ours and now_s - began_s < CLAIM_S_MAX:
                return
            if now_s > last_s:
                raise faults.TimedOut("another node asks by the grant")
            if is_ours:
                await self._leave(email_id)
            else:
                await asyncio.sleep(_LOOK_S)

    async def _leave(self, email_id: int) -> None:
        """A claim that cannot be left ends with this process, or with its next refresh of the grant."""
        for _ in range(_LEAVE_TRIES):
            try:
                await self._grants.leave(email_id)
            except (EventStoreError, EntityError, AskTimeout) as error:
                _log.warning("grant_not_left", email_id=email_id, reason=str(error))
                await asyncio.sleep(_LOOK_S)
            else:
                break

    async def _refresh_alone(
        self, email_id: int, provider: Provider, graph: bool, proxy: Proxy | None
    ) -> Access:
        while True:
            grant = await self._grants.read(email_id)
            if grant is None:
                raise faults.GrantRefused("no_grant", "")
            try:
                # What is stored now is only sent to where the mailbox is now.
                way, fresh = await self._ask(grant.provider or provider, grant, graph, proxy)
            except faults.GrantRefused:
                # Refused may only mean that it was used: by another process of this log, which has kept its
                # successor by now, or for a grant that the user replaced meanwhile.
                now = await self._grants.read(email_id)
                if now is None or now.generation == grant.generation:
                    raise
                continue
            following = None if fresh.refresh_token == grant.refresh_token else fresh.refresh_token
            # Whether Graph is the way from now on, a check decides: a token alone reads no mail.
            learned = way if way.graph == grant.way.graph else grant.way
            generation = grant.generation + (following is not None)
            if (following is None and learned == grant.way) or await self._grants.keep(
                email_id, grant.generation, learned, following
            ):
                return self._keep((email_id, graph), fresh, generation, way)
            # The user entered another grant meanwhile.

    async def _ask(
        self, provider: Provider, grant: Grant, graph: bool, proxy: Proxy | None
    ) -> tuple[Way, faults.Issued]:
        """The first endpoint and scope that issue a token. Endpoints that refuse the grant are asked once."""
        first: faults.MailFault | None = None
        refused: set[str] = set()
        for way in ways(provider, grant.way, graph=graph):
            if way.token_url in refused:
                continue
            try:
                return way, await with_retries(
                    self._ambient, partial(self._post, way, provider, grant, proxy)
                )
            except faults.NoScope as fault:
                first = fault if first is None or not isinstance(first, faults.NoScope) else first
            except faults.GrantRefused as fault:
                refused.add(way.token_url)
                first = first or fault
        raise first or faults.NoScope("no_token_url", "")

    async def _post(self, way: Way, provider: Provider, grant: Grant, proxy: Proxy | None) -> faults.Issued:
        fields = {
            "grant_type": "refresh_token",
            "client_id": grant.client_id,
            "refresh_token": grant.refresh_token.reveal(),
        }
        if way.scope:
            fields["scope"] = way.scope
        if provider.client_secret:
            fields["client_secret"] = provider.client_secret
        answer = await self._requests.post_form(way.token_url, fields, proxy)
        fresh = faults.issued(
            answer, self._ambient.now_ms(), (grant.refresh_token, Secret(provider.client_secret))
        )
        if not way.graph and fresh.scope and provider.graph_url and not _reads_imap(fresh.scope):
            raise faults.NoScope("insufficient_scope", "")
        return fresh

    def _keep(self, key: tuple[int, bool], fresh: faults.Issued, generation: int, way: Way) -> Access:
        usable_s = max(fresh.lifetime_s - RENEW_BEFORE_S, fresh.lifetime_s / 2)
        access = Access(fresh.access_token, self._ambient.monotonic_s() + usable_s, generation, way)
        self._kept[key] = access
        self._kept.move_to_end(key)
        if len(self._kept) > self._kept_max:
            self._kept.popitem(last=False)
        return access


def ways(provider: Provider, known: Way, *, graph: bool) -> Iterator[Way]:
    """Endpoints and scopes in the order in which they are asked: what worked last comes first."""
    if known.token_url in provider.token_url and known.graph == graph:
        yield known
    for url in provider.token_url:
        for scopes in (provider.graph_scopes if graph else provider.scopes) or ((),):
            way = Way(graph, url, " ".join(scopes))
            if way != known:
                yield way


def _reads_imap(scope: str) -> bool:
    """Whether a granted scope that names Microsoft's own permissions has the one for IMAP."""
    words = scope.lower()
    return "imap." in words or "mail." not in words
