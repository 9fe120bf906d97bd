"""Who may ask: route, origin, token or ticket, and the rate of its user. Nothing here waits.

It is asked with a request's head, so the body of a stranger is never read.
"""

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from huahuo.actors.plugins.principal import Principal
from huahuo.transport.access.door import RequestLimit
from huahuo.transport.access.verified import AuthFailure, Verified
from huahuo.transport.http.cors import cors_headers, preflight
from huahuo.transport.http.messages import Answer, Headers, Request
from huahuo.transport.http.plugin_forms import asked_of, told
from huahuo.transport.http.problems import problem
from huahuo.transport.http.routes import PluginRoutes, Route, Target, route_of
from huahuo.transport.http.tickets import Tickets
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.server.alarms import tell_refused
from huahuo.transport.server.budget import Purse
from huahuo.transport.server.server import Server

STREAM_CHARS_MAX: Final = 128
_STRANGER_MS: Final = -1
"""In place of an expiry, for somebody without a token."""
_BEARER: Final = "bearer "
_SAFE: Final = re.compile(r"[^A-Za-z0-9_.]")


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """An admitted request. `purse`: its part of the user's bytes; close it after the answer."""

    request: Request
    route: Route
    token: str
    verified: Verified
    address: str
    cors: Headers
    purse: Purse
    stranger: bool = False
    """Nobody signed in, and the route takes anyone."""

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return self.verified.principal

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
        self.page_at_login = False
        """Whether the site has a page there, for a GET."""
        self.tickets = Tickets(self._wires.ambient.token)

    def admit(self, request: Request) -> Visit | Answer | None:
        """The visit, or the refusal. None: the path is not the API's."""
        route = route_of(request.path) or self._plugins.find(request.method, request.path)
        if route is None or (route.target is Target.DURABLE and self.durable is None):
            return None
        if self.page_at_login and route.target is Target.LOGIN and request.method in ("GET", "HEAD"):
            return None
        cors = cors_headers(request, self._origins)
        if cors is None:
            self._server.admission.tell_refused_origin(request.all("origin"))
            return problem(ErrorCode.FORBIDDEN, "this origin is not allowed", ends=True)
        visit = self._admitted(request, route, cors)
        return told(route, visit).adding(cors) if isinstance(visit, Answer) else visit

    def _admitted(self, request: Request, route: Route, cors: Headers) -> Visit | Answer:
        if request.method not in route.methods:
            allow = (("Allow", ", ".join(route.methods)),)
            return problem("method_not_allowed", f"this path takes {route.methods[0]}, not {request.method}",
                           status=HTTPStatus.METHOD_NOT_ALLOWED, headers=allow, ends=True)  # fmt: skip
        if request.method == "OPTIONS":
            return preflight(route.methods, ())
        if len(route.name) > STREAM_CHARS_MAX:
            return problem(ErrorCode.INVALID_FIELD, f"at most {STREAM_CHARS_MAX} characters are a name")
        now_s = self._wires.ambient.monotonic_s()
        address = self._server.admission.address_of(request.peer, request.all("x-forwarded-for"))
        token = self._token(request, route, now_s)
        anybody = self._anybody(request, route, address) if token is None else None
        if anybody is not None:
            verified: Verified | Answer = anybody
        elif route.target is Target.LOGIN:
            token, verified = None, self._stranger(address, now_s)
        elif route.plugin is not None:
            verified = self._for_plugin(request, route, token, address, now_s)
        else:
            verified = self._verified(token, address, now_s)
        if isinstance(verified, Answer):
            return verified
        name = verified.principal.name
        wait_s = self._users.take(name, now_s)
        if wait_s > 0:
            return problem(ErrorCode.RATE_LIMITED, "too many requests of this user", retry_s=wait_s)
        purse = self._wires.supply.budget.purse(name)
        return Visit(
            request=request, route=route, token=token or "", verified=verified, address=address, cors=cors,
            purse=purse, stranger=verified.expires_at_ms == _STRANGER_MS,
        )  # fmt: skip

    def _for_plugin(
        self, request: Request, route: Route, token: str | None, address: str, now_s: float
    ) -> Verified | Answer:
        """Who asks a plug-in: a client that it recognises itself, one with a token, or anyone."""
        asked = route.plugin
        assert asked is not None
        known = None if asked.who is None else asked.who(asked_of(request, route, address))
        if known is not None:
            verified: Verified | Answer = Verified(known, 0)
        elif asked.access == "anyone":
            verdict = (
                AuthFailure("", "")
                if not token
                else self._wires.verifier.verify(token, self._wires.ambient.now_ms())
            )
            verified = self._stranger(address, now_s) if isinstance(verdict, AuthFailure) else verdict
        else:
            verified = self._verified(token, address, now_s)
        if asked.access == "admin" and isinstance(verified, Verified) and not verified.principal.is_admin:
            return problem(ErrorCode.FORBIDDEN, "this is for administrators only")
        return verified

    def _anybody(self, request: Request, route: Route, address: str) -> Verified | None:
        if route.target is not Target.DURABLE or self.durable is None:
            return None
        return self.durable(request, address)

    def _token(self, request: Request, route: Route, now_s: float) -> str | None:
        said = request.header("authorization") or ""
        if said[: len(_BEARER)].lower() == _BEARER:
            return said[len(_BEARER) :].strip()
        ticket = request.query.get("ticket")
        if ticket is not None and route.target is Target.STREAM:
            return self.tickets.use(ticket, now_s) or ""
        return None

    def _stranger(self, address: str, now_s: float) -> Verified | Answer:
        """Somebody without a token, who may try to sign in."""
        wait_s = self._addresses.take(address, now_s)
        if wait_s > 0:
            return problem(ErrorCode.RATE_LIMITED, "too many requests", retry_s=wait_s, ends=True)
        return Verified(Principal(f"login.{_SAFE.sub('_', address)}"[:64], "stranger"), _STRANGER_MS)

    def _verified(self, token: str | None, address: str, now_s: float) -> Verified | Answer:
        wires = self._wires
        if token is None:
            wait_s = self._addresses.take(address, now_s)
            if wait_s > 0:
                return problem(ErrorCode.RATE_LIMITED, "too many requests", retry_s=wait_s, ends=True)
            why = "send a token as `Authorization: Bearer …`, or a ticket where only a URL can be given"
            return problem(ErrorCode.UNAUTHENTICATED, why, ends=True)
        verdict = wires.verifier.verify(token, wires.ambient.now_ms())
        if not token and isinstance(verdict, AuthFailure):
            why = "its ticket was used before, is too old, or is of another start of the service"
            verdict = msgspec.structs.replace(verdict, reason=why)
        if not isinstance(verdict, AuthFailure):
            wires.meter.authenticated("ok")
            return verdict
        wires.meter.authenticated(verdict.code)
        tell_refused(verdict, address, wires.notices, now_s)
        refusal = problem(verdict.code, verdict.message, ends=True)
        return msgspec.structs.replace(refusal, hold_s=wires.door.auth_failed(address, now_s))
