"""`test_login`: whether a login works that is not stored, or that of a mailbox. Nothing is kept of it."""

from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.api.params import Flag
from huahuo.mailcheck.attachments.asking import Asking
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.attachments.reading import ReadMail
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.checks.ports import Target
from huahuo.mailcheck.checks.signing_in_only import Folders
from huahuo.mailcheck.checks.ways import CheckMail
from huahuo.mailcheck.roster.rules import refuse_address, refuse_missing, refuse_secrets, refuse_settings
from huahuo.mailcheck.servers.providers import TOKENS, Providers
from huahuo.mailcheck.servers.proxies import DIRECT, Proxy, parse_proxy
from huahuo.mailcheck.words import en, zh

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


class TestingLogin:
    """See the module. `proxy` is the operator's, for logins that name none."""

    def __init__(
        self,
        own: OwnMails,
        mailboxes: Mailboxes,
        *,
        stored: ReadMail,
        given: CheckMail,
        providers: Providers,
        proxy: Proxy | None,
        ambient: Ambient,
    ) -> None:
        self._own = own
        self._mailboxes = mailboxes
        self._stored = stored
        self._given = given
        self._providers = providers
        self._proxy = proxy
        self._asking = Asking(ambient, zh.TESTING_ALREADY, en.TRIED_AT_ONCE)

    def actions(self) -> list[Action]:
        """The action."""
        return [Action("test_login", TestLoginParams, self._test, query=True)]

    async def _test(self, call: Call[TestLoginParams]) -> Reply:
        refusal = None if call.params.email_id is not None else self._refusal(call.params)
        if refusal is not None:
            return error_reply(refusal)
        return await self._asking.answer(call.principal.name, partial(self._tested, call))

    async def _tested(self, call: Call[TestLoginParams]) -> Reply:
        found = Folders()
        if call.params.email_id is None:
            await self._given(self._target(call.params), None, found)
        elif (missing := await self._of_mailbox(call, call.params.email_id, found)) is not None:
            return missing
        return json_reply({"type": "success", "message": zh.LOGIN_TESTED, "folders": found.names})

    async def _of_mailbox(self, call: Call[Any], email_id: int, found: Folders) -> Reply | None:
        row = await self._own.mailbox(call.principal.user_id, email_id)
        plan = None if row is None else await self._mailboxes.plan_of(email_id)
        if plan is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        await self._stored(email_id, plan, found)
        return None

    def _refusal(self, params: TestLoginParams) -> Refusal | None:
        secrets = {"password": Secret(params.password)} if params.password else {}
        others = {"proxy": params.proxy, "login": params.login}
        return (
            refuse_address(params.email.strip())
            or refuse_settings(self._providers, params.mail_type, params.server, params.port)
            or refuse_secrets({**secrets, **{name: Secret(text) for name, text in others.items() if text}})
            or refuse_missing(self._providers, params.mail_type, secrets)
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
