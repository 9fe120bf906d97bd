"""Passwords that were typed on the command line, where every user of the machine can read them."""

import os
import sys

VARIABLE = "HUAHUO_LOG"


def hide_password(url: str | None) -> None:
    """Begin this process anew without `--log`, with the address in the environment, if it may have a secret.

    The arguments of a process are shown to all users of the machine, its environment only to its own. What
    stands alone before the @ is a token for NATS.
    """
    if url is None or "@" not in url:
        return
    found = sys.orig_argv
    kept: list[str] = []
    skip = False
    for word in found:
        if skip:
            skip = False
        elif word == "--log":
            skip = True
        elif not word.startswith("--log="):
            kept.append(word)
    os.execve(sys.executable, kept, {**os.environ, VARIABLE: url})  # noqa: S606  the same program again
