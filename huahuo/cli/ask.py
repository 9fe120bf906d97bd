"""One GET to a running service on this machine."""

import urllib.error
import urllib.request
from typing import Final

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Never through a proxy of the environment, which would look for the service on its own machine."""
_TIMEOUT_S: Final = 2.0
_REASON_BYTES_MAX: Final = 2048


def get(url: str, path: str, timeout_s: float) -> str:
    """The text at `path`.

    Raises:
        urllib.error.HTTPError: the answer is an error; it is also an OSError.
        OSError: the service does not answer in time.
    """
    with _direct.open(f"{url}{path}", timeout=timeout_s) as answer:
        return str(answer.read().decode(errors="replace"))


def not_ready(url: str) -> str:
    """Why the service is not ready, in its own words. "" if it is ready or does not answer."""
    try:
        get(url, "/readyz", _TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            return error.read(_REASON_BYTES_MAX).decode(errors="replace").strip()
    except OSError as error:
        return str(error)
    return ""
