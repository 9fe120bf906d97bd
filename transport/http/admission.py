"""Who may ask: route, origin, token or ticket, and the rate of its user. Nothing here waits.

It is asked with a request's head, so the body of a stranger is never read.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from huahuo.actors.plugins.calls import Principal
from huahuo.actors.plugins.words import language_of
from huahuo.transport.access.door import RequestLimit
from huahuo.transport.access.rights import AuthFailure, Verdict, Verified
from huahuo.transport.http.messages import (
    Answer,
    Headers,
    Request,
    cors_headers,
    preflight,
    problem,
    wrong_method,
)
from huahuo.transport.http.routes import PluginRoutes, Route, Target, asked_of, route_of, told
from huahuo.transport.http.sign_in import Tickets
from huahuo.transport.load.intake import Load
from huahuo.transport.load.shares import Purse
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.server.server import Server
from huahuo.transport.server.signing_in import note_verdict
from huahuo.transport.session.outgoing import REFUSED, Speech
from huahuo.transport.words import http_zh, zh

STREAM_CHARS_MAX: Final = 128
_NAMED: Final = (Target.STREAM, Target.COMMAND, Target.DURABLE, Target.LIST)
"""What the rest of the path names."""
_STRANGER_MS: Final = -1
"""In place of an expiry, for somebody without a token."""
_BEARER: Final = "bearer "
_PARAMETER_CHARS_MAX: Final = 64
"""At most this much of an unknown parameter's name is told back."""
_SAFE: Final = re.compile(r"[^A-Za-z0-9_.]")


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """An admitted request; close it after the answer.

    `purse` and `load`: what its answer and its body take of the user's bytes.
    `speech`: says messages in the language that the client prefers.
    """

    request: Request
    route: Route
    token: str
    verified: Verified
    address: str
    cors: Headers
    purse: Purse
    load: Load
    speech: Speech
    stranger: bool = False
    """Nobody signed in, and the route takes anyone."""

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return self.verified.principal

    @property
    def payer(self) -> str:
        """The user whose time it takes. "": nobody's, since a node asks for users whom that node charges."""
        return "" if self.route.target is Target.NODE else self.verified.principal.name

    def close(self) -> None:
        """It was answered, or its client has left."""
        self.purse.close()
        self.load.close()

    def __repr__(self) -> str:
        return f"Visit({self.request.method} {self.route.target.name} of {self.principal.name})"


class Admission:
    """See the module. `addresses` limits requests without a valid token, `users` those with one."""

    def __init__(
        self,
        server: Server,
        addresses: RequestLimit,
        users: RequestLimit,
        origins: Sequence[str],
        plugins: PluginRoutes,
    ) -> None:
        self._server = server
        self._wires = server.wires
        self._addresses = addresses
        self._users = users
        self._origins = origins
        self._plugins = plugins
        self.durable: Callable[[Request, str], Verified | None] | None = None
        """Who asks a durable stream without a token. None: there are no durable streams."""
        self.node: Callable[[Request, str, str], Verified | Answer] | None = None
        """Which node asks, by the request's head, its name and the address. None: there are no nodes."""
        self.page_at_login = False
        """Whether the site has a page there, for a GET."""
        self.tickets = Tickets(self._wires.ambient.token)

    async def admit(self, request: Request) -> Visit | Answer | None:
        """The visit, or the refusal. None: the path is not the API's."""
        if request.framed_twice:
            return problem(ErrorCode.BAD_MESSAGE, http_zh.FRAMED_TWICE, ends=True)
        route = route_of(request.path) or self._plugins.find(request.method, request.path)
        if route is None or (route.target is Target.DURABLE and self.durable is None):
            return None
        if route.target is Target.NODE:
            return None if self.node is None else self._of_node(self.node, request, route)
        if self.page_at_login and route.target is Target.LOGIN and request.method in ("GET", "HEAD"):
            return None
        cors = cors_headers(request, self._origins)
        if cors is None:
            self._server.admission.tell_refused_origin(request.all("origin"))
            return problem(ErrorCode.FORBIDDEN, http_zh.ORIGIN_REFUSED, ends=True)
        found = await self._admitted(request, route, cors)
        if isinstance(found, Visit):
            return found
        return told(route, found, self.speech_of(request, route)).adding(cors)

    def _of_node(
        self, judge: Callable[[Request, str, str], Verified | Answer], request: Request, route: Route
    ) -> Visit | Answer:
        """Another node signs its requests and has limits of its own; any other client counts by address."""
        if request.method != "POST":
            return wrong_method(("POST",))
        address = self._server.admission.address_of(request.peer, request.all("x-forwarded-for"))
        found = judge(request, route.name, address)
        if isinstance(found, Answer):
            return self._limited(address) or found
        return Visit(
            request=request, route=route, token="", verified=found, address=address, cors=(),
            purse=self._wires.supply.budget.purse(found.principal.name),
            load=Load(self._wires.supply.intake, found.principal.name), speech=self.speech_of(request, route),
        )  # fmt: skip

    async def _admitted(self, request: Request, route: Route, cors: Headers) -> Visit | Answer:
        if request.method not in route.methods:
            return wrong_method(route.methods)
        if request.method == "OPTIONS":
            return preflight(route.methods, ())
        if not route.name and route.target in _NAMED:
            return problem(ErrorCode.NOT_FOUND, http_zh.NOTHING_HERE, ends=True)
        if len(route.name) > STREAM_CHARS_MAX:
            why = http_zh.NAME_TOO_LONG.format(STREAM_CHARS_MAX)
            return problem(ErrorCode.INVALID_FIELD, why, ends=True)
        if route.parameters is not None and not request.query.keys() <= {*route.parameters}:
            odd = next(name for name in request.query if name not in route.parameters)
            there = ", ".join(route.parameters) or "-"
            why = http_zh.NO_SUCH_PARAMETER.format(odd[:_PARAMETER_CHARS_MAX], there)
            return problem(ErrorCode.INVALID_FIELD, why, ends=True)
        now_s = self._wires.ambient.monotonic_s()
        address = self._server.admission.address_of(request.peer, request.all("x-forwarded-for"))
        token = self._token(request, route, now_s)
        verified = await self._who(request, route, address, token)
        if isinstance(verified, Answer):
            return verified
        if route.plugin is not None and route.plugin.access == "admin" and not verified.principal.is_admin:
            return problem(ErrorCode.FORBIDDEN, zh.ADMINS_ONLY)
        name = verified.principal.name
        wait_s = self._users.take(name, self._wires.ambient.monotonic_s())
        if wait_s > 0:
            return problem(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_OF_USER, retry_s=wait_s)
        supply = self._wires.supply
        return Visit(
            request=request, route=route, token=token or "", verified=verified, address=address, cors=cors,
            purse=supply.budget.purse(name), load=Load(supply.intake, name),
            speech=self.speech_of(request, route),
            stranger=verified.expires_at_ms == _STRANGER_MS,
        )  # fmt: skip

    async def _who(
        self, request: Request, route: Route, address: str, token: str | None
    ) -> Verified | Answer:
        """Who asks, or the refusal, maybe after others judged the token."""
        if token is None and route.target is Target.DURABLE and self.durable is not None:
            anybody = self.durable(request, address)
            if anybody is not None:
                return anybody
        plugin = route.plugin
        if plugin is not None and plugin.who is not None:
            known = plugin.who(asked_of(request, route, address))
            if known is not None:
                return Verified(known, 0)
        anyone = plugin is not None and plugin.access == "anyone"
        if route.target is Target.LOGIN or (anyone and not token):
            return self._stranger(address)
        if token is None:
            return self._limited(address) or problem(ErrorCode.UNAUTHENTICATED, http_zh.NO_TOKEN, ends=True)
        verdict = self._wires.verifier.verify(token, self._wires.ambient.now_ms())
        if not isinstance(verdict, Verified | AuthFailure):
            verdict = await verdict
        if anyone and isinstance(verdict, AuthFailure):
            return self._stranger(address)
        return self._told(verdict, token, address)

    def speech_of(self, request: Request, route: Route) -> Speech:
        """See `speech`."""
        only = None if route.plugin is None else route.plugin.language
        if only is not None:
            return Speech(self._wires.shared.words, only, only)
        return self.speech(request.all("accept-language"))

    def speech(self, preferred: Iterable[str]) -> Speech:
        """Says messages in the language that a request prefers, by the values of `Accept-Language`."""
        shared = self._wires.shared
        language = language_of(preferred, shared.language or "en")
        return Speech(shared.words, language, language)

    def _token(self, request: Request, route: Route, now_s: float) -> str | None:
        said = request.header("authorization") or ""
        if said[: len(_BEARER)].lower() == _BEARER:
            return said[len(_BEARER) :].strip()
        ticket = request.query.get("ticket")
        if ticket is not None and route.target in (Target.STREAM, Target.LIST):
            return self.tickets.use(ticket, now_s) or ""
        return None

    def _limited(self, address: str) -> Answer | None:
        """The refusal of an address that asks too often without a token."""
        wait_s = self._addresses.take(address, self._wires.ambient.monotonic_s())
        if wait_s > 0:
            return problem(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_REQUESTS, retry_s=wait_s, ends=True)
        return None

    def _stranger(self, address: str) -> Verified | Answer:
        """Somebody without a token, who may try to sign in."""
        return self._limited(address) or Verified(
            Principal(f"login.{_SAFE.sub('_', address)}"[:64], "stranger"), _STRANGER_MS
        )

    def _told(self, verdict: Verdict, token: str, address: str) -> Verified | Answer:
        """The user, or the refusal after it was counted, logged, and held back where it must be."""
        if not token and isinstance(verdict, AuthFailure):
            why = "its ticket was used before, is too old, or is of another start of the service"
            verdict = msgspec.structs.replace(verdict, reason=why)
        hold_s = note_verdict(self._wires, verdict, address)
        if not isinstance(verdict, AuthFailure):
            return verdict
        refusal = problem(verdict.code, REFUSED[verdict.code], ends=True)
        return msgspec.structs.replace(refusal, hold_s=hold_s)
