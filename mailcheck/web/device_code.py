"""Sign-in with a code that the user enters on another device (RFC 8628).

The caller keeps the time between polls.
"""

from typing import Final

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import HttpFailed
from huahuo.mailcheck.servers.providers import Provider
from huahuo.mailcheck.servers.proxies import Proxy
from huahuo.mailcheck.web.answers import Answer, Issued, error_of, issued, refusal, seconds_of
from huahuo.mailcheck.web.requests import Requests
from huahuo.mailcheck.web.retrying import with_retries

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


def code_of(answer: Answer, now_ms: int) -> Code:
    """The code of an answer. Raises GrantRefused, HttpFailed."""
    fields = answer.json()
    device_code, user_code = fields.get("device_code"), fields.get("user_code")
    url = fields.get("verification_uri") or fields.get("verification_url")
    texts = (device_code, user_code, url)
    if answer.status != _OK or not all(
        isinstance(one, str) and 0 < len(one) <= _TEXT_CHARS_MAX for one in texts
    ):
        raise refusal(answer, now_ms)
    if not str(url).startswith("https://"):
        raise HttpFailed(answer.status, "the address of the sign-in page is none", passing=False)
    interval_s = seconds_of(fields.get("interval"), _INTERVAL_S)
    return Code(
        Secret(str(device_code)),
        str(user_code),
        str(url),
        min(max(interval_s, 1.0), _INTERVAL_S_MAX),
        min(seconds_of(fields.get("expires_in"), _LIFE_S), _LIFE_S_MAX),
    )


async def poll(
    requests: Requests, ambient: Ambient, provider: Provider, client_id: str, code: Code, proxy: Proxy | None
) -> Issued | Waiting:
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
    error, _ = error_of(answer.json())
    if error in (_PENDING, _SLOWER):
        return Waiting(slower=error == _SLOWER)
    return issued(answer, ambient.now_ms(), (code.device_code,))
