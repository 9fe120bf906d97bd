"""One GET to a running service, usually on this machine."""

import urllib.error
import urllib.request
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Final

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Never through a proxy of the environment, which would look for the service on its own machine."""
_TIMEOUT_S: Final = 2.0
_REASON_BYTES_MAX: Final = 2048


def get(url: str, path: str, timeout_s: float) -> str:
    """The text at `path`.

    Raises:
        urllib.error.HTTPError: the answer is an error; it is also an OSError.
        OSError: the service does not answer in time, or something else is there.
    """
    try:
        with _direct.open(_page(url, path), timeout=timeout_s) as answer:
            return str(answer.read().decode(errors="replace"))
    except (HTTPException, ValueError) as error:  # ValueError: of a host that can be none
        raise OSError(f"no page can be had there ({type(error).__name__})") from error


def not_ready(url: str) -> str:
    """Why the service is not ready, in its own words, or that it does not answer. "" if it is ready."""
    try:
        get(url, "/readyz", _TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            try:
                return error.read(_REASON_BYTES_MAX).decode(errors="replace").strip() or str(error)
            except (OSError, HTTPException):
                return str(error)
    except OSError as error:
        return f"no answer: {getattr(error, 'reason', error)}"
    return ""


def time_of(url: str) -> float | None:
    """What time the service has, in seconds since 1970, as its answers say. None if none says it."""
    try:
        with _direct.open(_page(url, "/healthz"), timeout=_TIMEOUT_S) as answer:
            return _date(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return _date(error.headers)
    except (OSError, HTTPException, ValueError):
        return None


def _page(url: str, path: str) -> str:
    """The page of a service whose address a user may have given without `http://`, or as a WebSocket's."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "http", url
    scheme = {"ws": "http", "wss": "https"}.get(scheme.lower(), scheme)
    return f"{scheme}://{rest.rstrip('/').removesuffix('/ws')}{path}"


def _date(headers: Message) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return None
