"""What to do if a service refuses a token that a command has just made with the key of a directory."""

from pathlib import Path

from huahuo.app.ask import time_of
from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.claims import SKEW_MS
from huahuo.transport.protocol.codes import AUTH_CLOSES, AuthCode


def way_on(url: str, code: str | int, data: Path, ambient: Ambient) -> str:
    """A sentence about a token that the service at `url` refused; "" if nothing is known.

    `code`: of the refusal, or of the close. The token is new. So the service takes it for one of the future,
    or for one that has expired, only if its clock differs from this machine's.
    """
    why = next((auth for auth, close in AUTH_CLOSES.items() if code in (auth, close)), None)
    if why not in (AuthCode.TOKEN_INVALID, AuthCode.TOKEN_EXPIRED):
        return ""
    there_s = time_of(url)
    ahead_ms = 0 if there_s is None else ambient.now_ms() - round(there_s * 1000)
    if (ahead_ms if why is AuthCode.TOKEN_INVALID else -ahead_ms) > SKEW_MS:
        which = "ahead of" if ahead_ms > 0 else "behind"
        return (
            f"The token was made by this machine's clock, which is {abs(ahead_ms) / 1000:.0f} s {which}"
            f" that of {url}: set the clocks by NTP, or give --token of `huahuo token` on that machine"
        )
    if why is AuthCode.TOKEN_EXPIRED:
        return ""
    return (
        f"It was signed with the key of {data}, or of HUAHUO_JWT_SECRET, and the service at {url} has another"
        " one: give --token, or --data of that service"
    )
