"""Signing in to a mail server: with a code on another device, `test_login`, and `get_folders` of a mailbox.

`signin_email` begins a sign-in with a code, `get_signin` tells how it goes. It lives in memory, for the
minutes that its code is good. Its grant is sealed by the command that adds or updates the mailbox. After a
restart the user begins again. `test_login` keeps nothing.
"""

import asyncio
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
import structlog
from msgspec import Meta

from huahuo.actors.entities.decider import Origin
from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, UserId, error_reply, json_reply
from huahuo.eventstore.errors import Corrupt, SealBroken
from huahuo.eventstore.model import Secret
from huahuo.mailcheck import en, zh
from huahuo.mailcheck.api.contents import Asking
from huahuo.mailcheck.api.params import Flag, OfMailbox
from huahuo.mailcheck.api.rosters import Answering, Rosters
from huahuo.mailcheck.checks.check import Folders
from huahuo.mailcheck.checks.check_effect import CheckMailbox, Target
from huahuo.mailcheck.checks.sign_in import CheckMail
from huahuo.mailcheck.events import mailbox_stream
from huahuo.mailcheck.mailbox.decider import Plan
from huahuo.mailcheck.records import Success
from huahuo.mailcheck.roster import decider
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.servers.faults import GrantRefused, Issued, MailFault, classify
from huahuo.mailcheck.servers.graph import Requests
from huahuo.mailcheck.servers.oauth import Code, Waiting, begin, poll
from huahuo.mailcheck.servers.providers import (
    DIRECT,
    TOKENS,
    Endpoint,
    Provider,
    Providers,
    Proxy,
    parse_proxy,
)

type _Text = Annotated[str, Meta(max_length=8_192)]


class TestLoginParams(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of `test_login`: of a mailbox (`email_id`) what is stored, else what is given."""

    email_id: Id | None = None
    email: _Text = ""
    mail_type: _Text = "imap"
    password: _Text = ""
    login: _Text = ""
    server: _Text = ""
    port: int | None = None
    use_ssl: Flag | None = None
    proxy: _Text = ""

    def __repr__(self) -> str:
        return "TestLoginParams('[sealed]')"


class Logins(Answering):
    """See the module. `stored` and `given` read a mailbox, or what is given; `proxy` is the operator's.

    `folders`: what is read of mailboxes whose user chose nothing.
    """

    def __init__(
        self,
        rosters: Rosters,
        *,
        stored: CheckMailbox,
        given: CheckMail,
        providers: Providers,
        proxy: Proxy | None,
        folders: tuple[str, ...],
    ) -> None:
        super().__init__(rosters)
        self._stored = stored
        self._given = given
        self._providers = providers
        self._proxy = proxy
        self._default = folders
        self._asking = Asking(self._ambient, zh.ASKING_ALREADY, en.SERVERS_AT_ONCE)
        self._testing = Asking(self._ambient, zh.TESTING_ALREADY, en.TRIED_AT_ONCE)

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action("get_folders", OfMailbox, self._get_folders, query=True),
            Action("test_login", TestLoginParams, self._test, query=True),
        ]

    async def _get_folders(self, call: Call[OfMailbox]) -> Reply:
        email_id = call.params.email_id
        plan = await self._plan(call, email_id)
        if plan is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))

        async def ask() -> Reply:
            found = Folders()
            await self._stored(email_id, plan, found)
            return json_reply(
                {
                    "type": "folders",
                    "email_id": email_id,
                    "data": found.names,
                    "junk": found.junk or None,
                    "chosen": plan.folders,
                    "default": self._default,
                }
            )

        return await self._asking.answer(call.principal.name, ask)

    async def _plan(self, call: Call[Any], email_id: int) -> Plan | None:
        row = await self._rosters.row(call.principal.user_id, email_id)
        return None if row is None else await self._mailboxes.plan_of(email_id)

    async def _test(self, call: Call[TestLoginParams]) -> Reply:
        refusal = None if call.params.email_id is not None else self._refusal(call.params)
        if refusal is not None:
            return error_reply(refusal)
        return await self._testing.answer(call.principal.name, partial(self._tested, call))

    async def _tested(self, call: Call[TestLoginParams]) -> Reply:
        found, email_id = Folders(), call.params.email_id
        if email_id is None:
            await self._given(self._target(call.params), None, found)
        else:
            plan = await self._plan(call, email_id)
            if plan is None:
                return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
            await self._stored(email_id, plan, found)
        return json_reply({"type": "success", "message": zh.LOGIN_TESTED, "folders": found.names})

    def _refusal(self, params: TestLoginParams) -> Refusal | None:
        given = {"password": params.password, "proxy": params.proxy, "login": params.login}
        secrets = {name: Secret(text) for name, text in given.items() if text}
        return (
            decider.refuse_address(params.email.strip())
            or decider.refuse_settings(self._providers, params.mail_type, params.server, params.port)
            or decider.refuse_secrets(secrets)
            or decider.refuse_missing(self._providers, params.mail_type, secrets)
        )

    def _target(self, params: TestLoginParams) -> Target:
        email = params.email.strip()
        where = self._providers.endpoint(
            params.mail_type,
            email,
            server=params.server,
            port=params.port,
            use_ssl=None if params.use_ssl is None else bool(params.use_ssl),
        )
        provider = self._providers.of(params.mail_type, where.host, where.port)
        proxy = parse_proxy(params.proxy) if params.proxy else self._proxy
        return Target(
            places=self._providers.places(params.mail_type, where.host, where.port, use_ssl=where.use_ssl),
            user=params.login or email,
            auth="login" if provider.auth in TOKENS else provider.auth,
            secret=Secret(params.password),
            proxy=None if params.proxy == DIRECT else proxy,
        )


SIGNINS_MAX: Final = 1_000
SIGNINS_PER_USER_MAX: Final = 16
_SLOWER_S: Final = 5.0
_MESSAGES: Final = {
    "pending": zh.SIGNIN_PENDING,
    "success": zh.SIGNIN_DONE,
    "error": zh.SIGNIN_FAILED,
    "expired": zh.SIGNIN_EXPIRED,
    "denied": zh.SIGNIN_DENIED,
}
_MOVES: Final = {"pending": zh.SIGNIN_MOVES, "success": zh.SIGNIN_MOVED}
"""In place of `_MESSAGES` where the mailbox goes back to its provider's hosts."""

type State = Literal["pending", "success", "error", "expired", "denied"]

_ENDS: Final[dict[str, State]] = {
    "expired_token": "expired",
    "access_denied": "denied",
    "authorization_declined": "denied",
}
"""By the error of the token endpoint."""

_log = structlog.get_logger(__name__)


class SigninParams(msgspec.Struct, frozen=True):
    """Fields of `signin_email`.

    Without `client_id`: the mailbox's, else the one of the table of providers.
    """

    email: Annotated[str, Meta(max_length=254)]
    mail_type: str = "outlook"
    client_id: Annotated[str, Meta(max_length=512)] = ""


class GetSigninParams(msgspec.Struct, frozen=True):
    """Fields of `get_signin`."""

    email: Annotated[str, Meta(max_length=254)]


class _Signin:
    """One sign-in of one user."""

    details = ""
    email_id: int | None = None
    move: tuple[str, str] | None = None
    """The mailbox gets another server by it: from where, and to where, as `host:port`."""
    task: asyncio.Task[None]

    def __init__(
        self, call: Call[Any], email: str, mail_type: str, provider: Provider, client_id: str, code: Code
    ) -> None:
        self.user_id, self.origin = call.principal.user_id, call.origin
        self.email, self.mail_type = email, mail_type
        self.provider, self.client_id, self.code = provider, client_id, code
        self.state: State = "pending"

    def end(self, state: State, details: str = "") -> None:
        self.state, self.details = state, details

    def reply(self) -> Reply:
        body: dict[str, Any] = {
            "type": "signin",
            "email": self.email,
            "state": self.state,
            "message": _MESSAGES[self.state],
        }
        if self.move is not None and self.state in _MOVES:
            source, target = self.move
            body["message"] = _MOVES[self.state].format(source, target)
            body["moves"] = {"from": source, "to": target}
        if self.state == "pending":
            body["user_code"] = self.code.user_code
            body["verification_uri"] = self.code.url
            body["expires_in_s"] = self.code.life_s
            body["interval_s"] = self.code.interval_s
        if self.details:
            body["details"] = self.details
        if self.email_id is not None:
            body["email_id"] = self.email_id
        return json_reply(body)


class Signins(Answering):
    """Sign-ins with a code on another device: `signin_email` begins one, `get_signin` tells how it goes.

    All methods belong to the loop's thread.
    """

    def __init__(
        self, rosters: Rosters, requests: Requests, providers: Providers, proxy: Proxy | None
    ) -> None:
        super().__init__(rosters)
        self._requests = requests
        self._providers = providers
        self._proxy = proxy
        self._signins: dict[tuple[UserId, str], _Signin] = {}

    def actions(self) -> list[Action]:
        """The actions. Neither answer is recorded: a code is good for minutes only."""
        return [
            Action("signin_email", SigninParams, self._begin, query=True),
            Action("get_signin", GetSigninParams, self._get, query=True),
        ]

    async def close(self) -> None:
        """Forget all sign-ins."""
        tasks = [one.task for one in self._signins.values()]
        self._signins.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _begin(self, call: Call[SigninParams]) -> Reply:
        email, user_id = call.params.email.strip(), call.principal.user_id
        email_id, mail_type, at = await self._mailbox(user_id, email)
        mail_type = mail_type or call.params.mail_type
        provider = self._providers.of(mail_type)
        refusal = decider.refuse_address(email)
        if refusal is None and not (provider.devicecode_url and provider.token_url):
            refusal = Refusal("invalid_field", zh.SIGNIN_NOT_OFFERED, f"mail_type: {en.NO_CODE_URL}")
        client_id = call.params.client_id or await self._client_id(email_id) or provider.client_id
        if refusal is None and not client_id:
            refusal = Refusal("invalid_field", zh.SIGNIN_CLIENT_ID, en.ID_OR_PROVIDERS)
        key = user_id, email.lower()
        if refusal is None and not self._make_room(key):
            refusal = Refusal("busy", zh.SIGNINS_MAX, retry_s=_SLOWER_S)
        if refusal is not None:
            return error_reply(refusal)
        try:
            code = await begin(self._requests, self._ambient, provider, client_id, self._proxy)
        except MailFault as fault:
            outcome = classify(fault, over_http=True)
            return error_reply(Refusal("unavailable" if outcome.retry else "invalid_field", outcome.said))
        if not self._make_room(key):  # others began while the provider was asked
            return error_reply(Refusal("busy", zh.SIGNINS_MAX, retry_s=_SLOWER_S))
        signin = _Signin(call, email, mail_type, provider, client_id, code)
        if email_id is not None:
            signin.move = _move(at, self._home(at, mail_type, email))
        before = self._signins.pop(key, None)
        if before is not None:
            before.task.cancel()
        self._signins[key] = signin
        signin.task = asyncio.create_task(self._wait(signin), name="sign-in with a code")
        return signin.reply()

    async def _get(self, call: Call[GetSigninParams]) -> Reply:
        signin = self._signins.get((call.principal.user_id, call.params.email.strip().lower()))
        if signin is None:
            return error_reply(Refusal("not_found", zh.NO_SIGNIN, "email"))
        return signin.reply()

    async def _wait(self, signin: _Signin) -> None:
        code, interval_s = signin.code, signin.code.interval_s
        until_s = self._ambient.monotonic_s() + code.life_s
        ask = partial(poll, self._requests, self._ambient, signin.provider, signin.client_id, code)
        while self._ambient.monotonic_s() + interval_s < until_s:
            await asyncio.sleep(interval_s)
            try:
                found = await ask(self._proxy)
            except GrantRefused as fault:
                return signin.end(_ENDS.get(fault.error, "error"), fault.text)
            except MailFault as fault:
                outcome = classify(fault, over_http=True)
                if not outcome.retry:
                    return signin.end("error", outcome.said)
                continue
            if not isinstance(found, Waiting):
                return await self._store(signin, found)
            interval_s += _SLOWER_S if found.slower else 0.0
        return signin.end("expired")

    async def _store(self, signin: _Signin, found: Issued) -> None:
        if found.refresh_token is None:
            return signin.end("error", en.NO_REFRESH_TOKEN)
        email, mail_type = signin.email, signin.mail_type
        secrets = {"client_id": Secret(signin.client_id), "refresh_token": found.refresh_token}
        email_id, _, at = await self._mailbox(signin.user_id, email)
        command: decider.AddEmail | decider.UpdateEmail = decider.AddEmail(
            email=email, mail_type=mail_type, secrets=secrets
        )
        if email_id is not None:
            where = self._home(at, mail_type, email)
            signin.move = _move(at, where)
            command = decider.UpdateEmail(
                email_id=email_id,
                mail_type=mail_type,
                server=where.host,
                port=where.port,
                use_ssl=where.use_ssl,
                secrets=secrets,
            )
        origin = Origin(signin.origin.principal, signin.origin.command_id)
        try:
            reply = (await self._rosters.tell(signin.user_id, command, origin)).reply
        except Exception as error:  # noqa: BLE001  the user must be told, whatever was raised
            _log.warning("signin_not_stored", error=type(error).__name__)
            return signin.end("error")
        if isinstance(reply, Success):
            signin.email_id = reply.email_id
            return signin.end("success")
        return signin.end("error", reply.message if isinstance(reply, Refusal) else "")

    def _home(self, at: Endpoint, mail_type: str, email: str) -> Endpoint:
        """Where the grant of a provider is good for: at one of its hosts, wherever the mailbox is now.

        Who holds a key, but not the grant, could have moved the mailbox to a server of their own and wait.
        """
        hosts = self._providers.of(mail_type).hosts
        places = self._providers.places(mail_type, at.host, at.port, use_ssl=at.use_ssl)
        if not hosts or places[0].listed:
            return at
        return self._providers.endpoint(mail_type, email)

    async def _mailbox(self, user_id: UserId, email: str) -> tuple[int | None, str, Endpoint]:
        """The mailbox of this address, its type and its server. None, "" and nowhere if there is none."""

        def look(_seq: int, state: Roster) -> tuple[int | None, str, Endpoint]:
            email_id = state.addresses.get(email.lower())
            if email_id is None:
                return None, "", Endpoint("", 0, use_ssl=True)
            row = state.rows[email_id]
            return email_id, row.mail_type, Endpoint(row.server, row.port, row.use_ssl)

        return await self._rosters.ask(user_id, look)

    async def _client_id(self, email_id: int | None) -> str:
        try:
            sealed = (
                None if email_id is None else await self._log.secret(mailbox_stream(email_id), "client_id")
            )
        except (Corrupt, SealBroken):
            sealed = None  # signing in is how it is put right
        return "" if sealed is None else sealed.reveal()

    def _make_room(self, key: tuple[UserId, str]) -> bool:
        """Whether one more sign-in may begin. Those that have ended give way, oldest first."""
        others = [one for one in self._signins if one != key]
        own = [one for one in others if one[0] == key[0]]
        for crowd, most in ((own, SIGNINS_PER_USER_MAX), (others, SIGNINS_MAX)):
            if len(crowd) >= most:
                ended = next((one for one in crowd if self._signins[one].state != "pending"), None)
                if ended is None:
                    return False
                del self._signins[ended]
        return True


def _move(at: Endpoint, home: Endpoint) -> tuple[str, str] | None:
    """The move from one to the other, None if they are one place."""
    if (at.host.lower(), at.port) == (home.host.lower(), home.port):
        return None
    return _named(at), _named(home)


def _named(at: Endpoint) -> str:
    host = f"[{at.host}]" if ":" in at.host else at.host
    return f"{host}:{at.port}"
