"""One GET to a running service on this machine."""

import urllib.request

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Never through a proxy of the environment, which would look for the service on its own machine."""


def get(url: str, path: str, timeout_s: float) -> str:
    """The text at `path`.

    Raises:
        urllib.error.HTTPError: the answer is an error; it is also an OSError.
        OSError: the service does not answer in time.
    """
    with _direct.open(f"{url}{path}", timeout=timeout_s) as answer:
        return str(answer.read().decode(errors="replace"))
