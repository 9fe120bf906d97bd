"""Sign-in with a name and a password (PROTOCOL 12, `POST /login`): the limits, the check, and the token.

From the tenth failure within a minute on, a name and an address are refused at once, whatever the
password. Guesses of a user's password so lock the name; a device with which the user has signed in
before, known by a cookie of its own, is refused for its own failures only. An answer is never held back,
and failures here do not count against tokens.
"""

import hmac
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

import msgspec

from huahuo import en, zh
from huahuo.actors.plugins.calls import Principal, RefuseGrowth
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.refusals import ChangeRefused
from huahuo.transport.access.claims import IssueMs, TokenError
from huahuo.transport.access.tokens import Authenticator, Signer
from huahuo.transport.http.sign_in import Verdict
from huahuo.users.book import UserBook
from huahuo.users.users import User, key_of

FAILURES_MAX: Final = 10
"""From this failure within a minute on, an answer is a refusal without a look at the password."""
WINDOW_S: Final = 60.0
KEYS_MAX: Final = 10_000


class Failures:
    """The last failures of the last `keys_max` names or addresses that failed."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self.spent: Counter[str] | None = None
        """The failures of each key since it was emptied, for other nodes. None: there are none."""

    def __len__(self) -> int:
        return len(self._times)

    def wait_s(self, key: str, now_s: float) -> float:
        """Seconds until a sign-in may be tried, 0 if it may now."""
        times = self._times.get(key)
        if times is None or len(times) < FAILURES_MAX:
            return 0.0
        return max(0.0, times[0] + WINDOW_S - now_s)

    def failed(self, key: str, now_s: float) -> float:
        """Note a failure. Returns as `wait_s`."""
        if self.spent is not None and (key in self.spent or len(self.spent) < self._keys_max):
            self.spent[key] += 1
        self._note(key, now_s)
        return self.wait_s(key, now_s)

    def charge(self, key: str, count: int, now_s: float) -> None:
        """The key failed `count` times on another node."""
        for _ in range(min(count, FAILURES_MAX)):
            self._note(key, now_s)

    def _note(self, key: str, now_s: float) -> None:
        times = self._times.setdefault(key, deque(maxlen=FAILURES_MAX))
        self._times.move_to_end(key)
        if len(self._times) > self._keys_max:
            self._times.popitem(last=False)
        times.append(now_s)

    def succeeded(self, key: str) -> None:
        """Forget the failures of a name whose user has signed in."""
        self._times.pop(key, None)
        if self.spent is not None:
            self.spent.pop(key, None)


COOKIE: Final = "huahuo_device"
_KEPT_S: Final = 365 * 86_400
_ID_BYTES: Final = 16


class _Device(msgspec.Struct, frozen=True):
    device: str
    of: str
    """Whose it is, by the key of the name."""


class Devices:
    """Makes and reads the cookies. `token` makes a random text of so many bytes."""

    def __init__(self, signer: Signer, token: Callable[[int], str]) -> None:
        self._signer = signer
        self._token = token

    def made_for(self, key: str) -> str:
        """The value of `Set-Cookie` for a device with which the user of this name has signed in."""
        signed = self._signer.sign(msgspec.json.encode(_Device(self._token(_ID_BYTES), key)))
        return f"{COOKIE}={signed}; Path=/; Max-Age={_KEPT_S}; HttpOnly; SameSite=Strict"

    def known(self, cookies: str, key: str) -> str:
        """Which device of this user sends the header `Cookie`; "": none that is known."""
        for one in cookies.split(";"):
            name, _, value = one.strip().partition("=")
            if name == COOKIE:
                try:
                    found = msgspec.json.decode(self._signer.payload(value), type=_Device)
                except (TokenError, msgspec.DecodeError, UnicodeDecodeError):
                    return ""
                return found.device if found.of == key else ""
        return ""


_AT_ONCE_MAX: Final = 16
"""Passwords that are being verified. Each takes 64 MiB for 50 ms, on one of two threads."""
_BUSY_S: Final = 1.0
_CODE_BYTES: Final = 24


class SignedIn(msgspec.Struct, frozen=True):
    """A token for a user."""

    token: str
    expires_at: str
    user: User
    cookie: str = ""
    """The value of `Set-Cookie` by which the device is known from now on; "": it is known already."""

    def __repr__(self) -> str:
        return f"SignedIn('[sealed]', {self.user.name!r})"

    def body(self) -> dict[str, object]:
        """The answer."""
        shown = {"user_id": self.user.user_id, "username": self.user.name, "is_admin": self.user.is_admin}
        return {"token": self.token, "expires_at": self.expires_at, "user": shown}


class Refused(msgspec.Struct, frozen=True):
    """No token.

    `retry_s`: too many failures, and seconds until the next try; None: the name or the password.
    """

    retry_s: float | None = None


class Login:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        book: UserBook,
        authenticator: Authenticator,
        ambient: Ambient,
        *,
        token_ttl_s: float,
        registration: bool = False,
    ) -> None:
        """`registration`: the setting, which holds until an administrator says otherwise."""
        self._book = book
        self.authenticator = authenticator
        self._ambient = ambient
        self._token_ttl_s = token_ttl_s
        self._by_name = Failures()
        self._by_address = Failures()
        self._by_device = Failures()
        self._devices = Devices(authenticator.signer, ambient.token)
        self._made_at = Failures()
        self._registration = registration
        self._first_code = ""
        self._running = 0
        self.refuse_growth: RefuseGrowth | None = None
        """Asked before an account is made over HTTP. None: there is room."""

    async def attempt(self, name: str, password: str, address: str, cookies: str = "") -> SignedIn | Refused:
        """One sign-in from an address. `cookies`: the header. Exceptions of the log pass through."""
        key, now_s = key_of(name), self._ambient.monotonic_s()
        device = self._devices.known(cookies, key)
        of_name, guessed = (self._by_device, device) if device else (self._by_name, key)
        wait_s = max(of_name.wait_s(guessed, now_s), self._by_address.wait_s(address, now_s))
        if wait_s > 0:
            return Refused(wait_s)
        if self._running >= _AT_ONCE_MAX:
            return Refused(_BUSY_S)
        issue_ms = self.authenticator.asked_from(self._ambient.now_ms())
        self._running += 1
        try:
            user = await self._book.verified(name, password)
        finally:
            self._running -= 1
        if user is None:
            now_s = self._ambient.monotonic_s()
            waits = of_name.failed(guessed, now_s), self._by_address.failed(address, now_s)
            return Refused(max(waits) or None)
        of_name.succeeded(guessed)
        signed = self.token_for(user, issue_ms=issue_ms)
        return signed if device else msgspec.structs.replace(signed, cookie=self._devices.made_for(key))

    @property
    def failures(self) -> dict[str, Failures]:
        """What is counted against guessing, by the name of the count."""
        return {
            "sign-ins of a name": self._by_name,
            "sign-ins of an address": self._by_address,
            "sign-ins of a device": self._by_device,
            "accounts of an address": self._made_at,
        }

    @property
    def registration(self) -> bool:
        """Whether anybody may make an account."""
        said = self._book.users.registration
        return self._registration if said is None else said

    def first_code(self) -> str | None:
        """The code with which the first administrator is made; None if there was ever a user."""
        if self._book.seq:
            return None
        self._first_code = self._first_code or self._ambient.token(_CODE_BYTES)
        return self._first_code

    async def register(self, name: str, password: str, address: str, code: str = "") -> SignedIn | Refused:
        """Make an account and sign in: the first administrator's with the code, else if that is allowed.

        Raises:
            ChangeRefused: it is not allowed, there is no room, or the name or the password is refused.
        """
        if not code and self.registration:
            self.must_have_room("registration")
        now_s = self._ambient.monotonic_s()
        wait_s = self._made_at.wait_s(address, now_s)
        if wait_s > 0:
            return Refused(wait_s)
        self._made_at.failed(address, now_s)  # successes count too: accounts are not made in masses
        if self._running >= _AT_ONCE_MAX:
            return Refused(_BUSY_S)
        first, given = bool(code), code.encode("utf-8", "replace")
        if first and not (self._first_code and hmac.compare_digest(given, self._first_code.encode())):
            raise ChangeRefused("forbidden", en.LINK_USED, zh.LINK_USED)
        if not first and not self.registration:
            raise ChangeRefused("forbidden", en.REGISTRATION_OFF, zh.REGISTRATION_OFF)
        self._running += 1
        try:
            who = "first administrator" if first else "registration"
            user = await self._book.add(name, password, is_admin=first, first=first, principal=who)
        finally:
            self._running -= 1
        if first:
            self._first_code = ""
        return self.token_for(user)

    def must_have_room(self, principal: str) -> None:
        """Raise ChangeRefused if no account may be made now, because the disk is nearly full."""
        refusal = None if self.refuse_growth is None else self.refuse_growth(principal, True)
        if refusal is not None:
            raise ChangeRefused(refusal.code, refusal.message, refusal.message, refusal.retry_s)

    async def sign_in(self, username: str, password: str, address: str, cookies: str) -> Verdict:
        """See `huahuo.transport.http.sign_in.SignIn`."""
        found = await self.attempt(username, password, address, cookies)
        if isinstance(found, Refused):
            return Verdict(retry_s=found.retry_s)
        return Verdict(json_bytes(found.body()), cookie=found.cookie)

    def renew(self, user_id: int | str, signed_in_ms: int) -> SignedIn | None:
        """Another token for a user who has one, of the same sign-in.

        None: it is no user of ours, or must not sign in any more.
        """
        user = self._book.users.of(user_id)
        return None if user is None or user.disabled else self.token_for(user, signed_in_ms)

    def token_for(self, user: User, signed_in_ms: int = 0, issue_ms: IssueMs | None = None) -> SignedIn:
        """A new token. `signed_in_ms` 0: the user has just signed in.

        `issue_ms`: of when it is, None: of now. What ends all sessions while a password is compared ends it.
        """
        clock_ms = self._ambient.now_ms()
        now_ms = self.authenticator.latest_ms(clock_ms)
        token = self.authenticator.mint(
            Principal(user.user_id, user.name, is_admin=user.is_admin, signed_in_ms=signed_in_ms or now_ms),
            now_ms=now_ms,
            issue_ms=self.authenticator.issue_ms(user.user_id, clock_ms)
            if issue_ms is None
            else issue_ms(user.user_id),
            ttl_s=self._token_ttl_s,
            jti=self._ambient.token(),
        )
        return SignedIn(token, rfc3339(now_ms + round(self._token_ttl_s * 1000)), user)
