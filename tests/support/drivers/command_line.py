"""The program `huahuo`, run as a user runs it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.patience import WITHIN_S
from tests.support.servers.forked import Forked
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY

KEYS = {"HUAHUO_JWT_SECRET": JWT_SECRET, "HUAHUO_MASTER_KEY": MASTER_KEY}


def huahuo(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """As the fork of a process that has imported it: half a second sooner."""
    return huahuo_at(None, *words, **environ)


def huahuo_at(folder: Path | None, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The same in this folder."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = Forked(list(words), {**os.environ, **environ}, folder, errors)
        with process.stdout:
            said = process.stdout.read()
        code = process.wait(WITHIN_S)
        errors.seek(0)
        return subprocess.CompletedProcess(words, code, said, errors.read())


def huahuo_anew(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as in a shell."""
    return _run(words, environ)


def huahuo_in(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """As `huahuo_anew` in this folder."""
    return _run(words, environ, folder=folder)


def huahuo_into(output: int, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The same with this standard output."""
    return _run(words, environ, output=output)


def huahuo_unread(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The same with a standard output whose reader has gone, as `head` goes."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return _run(words, environ, output=writing)
    finally:
        os.close(writing)


def _run(
    words: tuple[str, ...],
    environ: Mapping[str, str],
    *,
    folder: Path | None = None,
    output: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "huahuo", *words],
        cwd=folder,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=WITHIN_S,
        env={**os.environ, **environ},
        check=False,
    )
