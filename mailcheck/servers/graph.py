"""Folders and mails by Microsoft Graph, read-only, and the requests over HTTP to it and to token endpoints.

Each request has one deadline and a bound for its answer, and none follows a redirect. Connections are made
by `Network`, so addresses are checked and proxies used as for IMAP. Failures of the way are the same
faults; an answer of any status is an `Answer`. `with_retries` tries a failed request again, inside the
running check.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.mime.mail import written_sender
from huahuo.mailcheck.servers import faults
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import Proxy

if TYPE_CHECKING:
    from huahuo.mailcheck.servers.http_exchanges import Exchanges

WITHIN_S: Final = 30.0
"""No try begins later than this after the first one."""
TIMEOUT_S: Final = 7.0
"""For one answer, so that four tries of a hung server begin within `WITHIN_S`."""
_PAUSE_S: Final = 0.5
_PAUSE_MAX_S: Final = 8.0
_TRIES_MAX: Final = 16


def is_passing(fault: faults.MailFault) -> bool:
    """Whether a later try without any change may succeed. What breaks the protocol, does so again."""
    return not isinstance(fault, faults.BrokenProtocol) and faults.classify(fault, over_http=True).retry


def pause_s(fault: faults.MailFault, failures: int, chance: float) -> float:
    """The pause after `failures` in turn: doubled each time, never less than the server asked for."""
    backoff: float = min(_PAUSE_MAX_S, _PAUSE_S * 2.0 ** min(failures - 1, 10)) * (0.75 + chance / 2)
    asked = fault.retry_after_s if isinstance(fault, faults.HttpFailed) else None
    return max(backoff, asked or 0.0)


async def with_retries[T](ambient: Ambient, attempt: Callable[[], Awaitable[T]]) -> T:
    """The first answer of `attempt`. Raises its last fault, or the first that does not pass."""
    last_s = ambient.monotonic_s() + WITHIN_S
    failures = 0
    while True:
        try:
            return await attempt()
        except faults.MailFault as fault:
            failures += 1
            wait_s = pause_s(fault, failures, ambient.random())
            too_late = failures >= _TRIES_MAX or ambient.monotonic_s() + wait_s > last_s
            if too_late or not is_passing(fault):
                raise
        await asyncio.sleep(wait_s)


ANSWER_BYTES_MAX = 4 * 1024 * 1024


class Requests:
    """One for the service. All methods belong to the loop's thread."""

    def __init__(self, network: Network, *, timeout_s: float) -> None:
        self._network = network
        self._timeout_s = timeout_s
        self._made: Exchanges | None = None

    async def post_form(
        self, url: str, fields: Mapping[str, str], proxy: Proxy | None = None
    ) -> faults.Answer:
        """Post a form.

        Raises:
            HostRefused, DnsFailed, ConnectFailed, ProxyFailed, TlsFailed: there was no connection.
            TimedOut, ConnectionLost, BrokenProtocol: there was no answer within the bounds.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return await self._exchanges().send(
            "POST", url, headers, urlencode(fields).encode(), proxy, ANSWER_BYTES_MAX
        )

    async def get(
        self,
        url: str,
        *,
        token: Secret,
        headers: Mapping[str, str],
        proxy: Proxy | None = None,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> faults.Answer:
        """Get with an access token. A longer body is cut at `bytes_max`. Raises as `post_form`."""
        sent = {"Authorization": f"Bearer {token.reveal()}", **headers}
        return await self._exchanges().send("GET", url, sent, b"", proxy, bytes_max, may_cut=True)

    async def close(self) -> None:
        """Close idle connections. Idempotent."""
        if self._made is not None:
            await self._made.close()

    def _exchanges(self) -> "Exchanges":
        if self._made is None:
            from huahuo.mailcheck.servers.http_exchanges import Exchanges  # httpcore is slow to import

            self._made = Exchanges(self._network, self._timeout_s)
        return self._made


_SELECT: Final = "$select=id,receivedDateTime,subject,from,hasAttachments,internetMessageId"
INBOX: Final = "inbox"
JUNK: Final = "junkemail"
"""Names of Graph for folders that every mailbox has, in whatever language."""
_FOLDER_PAGES_MAX: Final = 20
_PAGE_MAILS: Final = 50
_PREFER: Final = f'IdType="ImmutableId", odata.maxpagesize={_PAGE_MAILS}'
_NO_DELTA: Final = frozenset({400, 404, 405, 501})
_UNAUTHORISED, _FORBIDDEN, _GONE_STATUS, _TOO_MANY, _SERVER = 401, 403, 404, 429, 500


class Listed(msgspec.Struct, frozen=True):
    """A mail of a listing. `received_ms` is None where Graph does not say."""

    remote_id: str
    received_ms: int | None
    subject: str = ""
    sender: str = ""
    message_id: str = ""
    has_attachments: bool = False
    told: bool = False
    """The listing says what the headers of the mail would."""


class Page(msgspec.Struct, frozen=True):
    """A page of a listing. `following`: the next page now; `later`: where the next check goes on."""

    mails: tuple[Listed, ...]
    following: str = ""
    later: str = ""


class Graph:
    """One check's reading of one mailbox. `renew` gives another token after one was refused."""

    def __init__(
        self,
        requests: Requests,
        ambient: Ambient,
        *,
        url: str,
        token: Secret,
        renew: Callable[[], Awaitable[Secret]],
        proxy: Proxy | None,
    ) -> None:
        self._requests = requests
        self._ambient = ambient
        self._url = url.rstrip("/")
        self._token = token
        self._renew = renew
        self._renewed = False
        self._proxy = proxy

    async def folders(self) -> list[tuple[str, str]]:
        """(id, name) of the mailbox's own folders, those inside others left out. Raises as `page`."""
        found: list[tuple[str, str]] = []
        url = f"{self._url}/me/mailFolders?$select=id,displayName&$top=100"
        for _ in range(_FOLDER_PAGES_MAX):
            answer = await self._get(url)
            if answer.status >= 400:  # noqa: PLR2004
                raise self._fault(answer)
            fields = answer.json()
            listed = fields.get("value")
            found += [
                (one["id"], str(one.get("displayName") or ""))
                for one in (listed if isinstance(listed, list) else ())
                if isinstance(one, dict) and isinstance(one.get("id"), str)
            ]
            url = _text(fields, "@odata.nextLink")
            if not url or _origin(url) != _origin(self._url):
                break
        return found

    async def page(self, link: str = "", folder: str = INBOX) -> Page:
        """The page at `link`, or the first one of the whole folder.

        A link that Graph does not know any more (its state has expired) leads to the first page, too.

        Raises:
            GrantRefused, NoScope: the token is not accepted. HttpFailed and others: see `with_retries`.
        """
        messages = f"{self._url}/me/mailFolders/{quote(folder, safe='')}/messages"
        if link and _origin(link) == _origin(self._url):
            answer = await self._get(link)
            if answer.status < 400:  # noqa: PLR2004  success
                return _page(answer)
            if answer.status not in (400, 404, 410):
                raise self._fault(answer)
        answer = await self._get(f"{messages}/delta?{_SELECT}")
        if answer.status in _NO_DELTA:
            order = "$orderby=receivedDateTime%20desc"
            answer = await self._get(f"{messages}?{_SELECT}&{order}&$top={_PAGE_MAILS}")
        if answer.status >= 400:  # noqa: PLR2004
            raise self._fault(answer)
        return _page(answer)

    async def mail(self, remote_id: str, bytes_max: int) -> faults.Answer | None:
        """The MIME text of a mail, cut at `bytes_max`. None if it is gone. Raises as `page`."""
        url = f"{self._url}/me/messages/{quote(remote_id, safe='')}/$value"
        answer = await self._get(url, bytes_max)
        if answer.status in (_GONE_STATUS, 410):
            return None
        if answer.status >= 400:  # noqa: PLR2004
            raise self._fault(answer)
        return answer

    async def _get(self, url: str, bytes_max: int = ANSWER_BYTES_MAX) -> faults.Answer:
        async def attempt() -> faults.Answer:
            answer = await self._requests.get(
                url, token=self._token, headers={"Prefer": _PREFER}, proxy=self._proxy, bytes_max=bytes_max
            )
            if answer.status == _TOO_MANY or (answer.status >= _SERVER and answer.status not in _NO_DELTA):
                raise self._fault(answer)
            return answer

        answer = await with_retries(self._ambient, attempt)
        if answer.status == _UNAUTHORISED and not self._renewed:
            self._renewed = True
            self._token = await self._renew()
            answer = await with_retries(self._ambient, attempt)
        return answer

    def _fault(
        self, answer: faults.Answer
    ) -> faults.GrantRefused | faults.HttpFailed | faults.CommandRefused:
        code, text = faults.error_of(answer.json(), (self._token,))
        if answer.status == _UNAUTHORISED:
            return faults.GrantRefused(code, text)
        if answer.status == _FORBIDDEN:
            return faults.NoScope(code, text)
        if answer.status == _GONE_STATUS:
            return faults.CommandRefused("EXAMINE", "NO", "NONEXISTENT", text)
        passing = answer.status == _TOO_MANY or answer.status >= _SERVER
        wait_s = faults.retry_after_s(answer.headers, self._ambient.now_ms())
        return faults.HttpFailed(answer.status, text or code, passing=passing, retry_after_s=wait_s)


def _page(answer: faults.Answer) -> Page:
    if answer.cut:
        raise faults.BrokenProtocol("a page of Graph is too long")
    fields = answer.json()
    value = fields.get("value")
    if not isinstance(value, list):
        raise faults.BrokenProtocol("a page of Graph has no list")
    mails = [
        Listed(
            one["id"],
            _milliseconds(one.get("receivedDateTime")),
            subject=_text(one, "subject"),
            sender=_sender(one.get("from")),
            message_id=_text(one, "internetMessageId"),
            has_attachments=one.get("hasAttachments") is True,
            told="subject" in one and "from" in one,
        )
        for one in value
        if isinstance(one, dict) and isinstance(one.get("id"), str) and "@removed" not in one
    ]
    return Page(tuple(mails), _text(fields, "@odata.nextLink"), _text(fields, "@odata.deltaLink"))


def _sender(said: object) -> str:
    """As it is told of a mail whose own headers are read."""
    address = said.get("emailAddress") if isinstance(said, dict) else None
    if not isinstance(address, dict):
        return ""
    return written_sender(_text(address, "name"), _text(address, "address"))


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _origin(url: str) -> tuple[str, str]:
    """Where a link leads: a token may go nowhere else than to the operator's `graph_url`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc


def _milliseconds(text: object) -> int | None:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)
