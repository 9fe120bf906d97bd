"""Other versions of the code: finding one, and running its folds and deciders on events.

The other version runs in a process of its own with its own path (`judge.py`), so that one interpreter never
loads two versions. That process can neither connect nor write.
"""

import asyncio
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

import huahuo
from huahuo.errors import ConfigError, HuahuoError

OURS = Path(huahuo.__file__).resolve().parents[1]
"""The directory of the running code."""
_MODEL = ("huahuo/eventstore/model.py", "eventstore/model.py")
"""A file that every version has, in rooms or flat as before."""
_NO_CODE = {".github", "bench", "docs", "examples", "scripts", "tests", "web"}
"""Folders of the repository that no version of the service needs."""
_JUDGE = Path(__file__).with_name("judge.py")


@asynccontextmanager
async def code_of(path: Path | None, ref: str | None) -> AsyncIterator[Path]:
    """The directory of the version named by a path, or by a commit of this repository.

    Raises:
        ConfigError: there is no such version at this path or commit.
    """
    if path is not None:
        root = path.resolve()  # noqa: ASYNC240  nothing else runs on this loop
        if not any((root / model).is_file() for model in _MODEL):
            raise ConfigError(f"{path} holds no version of this project (there is no event store in it)")
        yield root
        return
    assert ref is not None, "either a path or a ref"
    commit = await _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    name = commit.decode().strip()
    folders = set((await _git("ls-tree", "-d", "--name-only", name)).decode().split()) - _NO_CODE
    files = await _git("archive", "--format=tar", name, *sorted(folders))
    with tempfile.TemporaryDirectory(prefix="huahuo-code-") as directory:
        with tarfile.open(fileobj=io.BytesIO(files)) as archive:
            archive.extractall(directory, filter="data")
        yield Path(directory).resolve()  # noqa: ASYNC240


async def judged(
    root: Path, guides: Sequence[Path], events: Path, trace: list[int], findings: Path
) -> Iterator[dict[str, Any]]:
    """The findings of the version at `root` about the events in a file without a header, guide by guide.

    `findings`: a folder for them.

    Raises:
        HuahuoError: the version could not be run.
    """
    findings.mkdir(exist_ok=True)  # noqa: ASYNC240  nothing else runs on this loop
    said = [
        await _judged(root, guide, events, trace, findings / str(number))
        for number, guide in enumerate(guides)
    ]
    return chain.from_iterable(said)


async def _judged(
    root: Path, guide: Path, events: Path, trace: list[int], findings: Path
) -> Iterator[dict[str, Any]]:
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
    }
    with findings.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(_JUDGE), str(guide), str(events)),
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
        )
        _, errors = await process.communicate(msgspec.json.encode({"trace": trace}) + b"\n")
    if process.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise HuahuoError(f"the code in {root} cannot be run over this history: {last}")
    said = _lines(findings)
    code = Path(next(said)["code"])
    if root not in code.parents:
        raise HuahuoError(f"{root} was to be run, but {code} was")
    return said


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield msgspec.json.decode(line)


async def _git(*arguments: str) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", "-C", str(OURS), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError:
        raise ConfigError("git is needed to get another version; --code PATH works without it") from None
    output, _ = await process.communicate()
    if process.returncode:
        raise ConfigError(f"git {arguments[0]}: no such version in the repository of {OURS.name}")
    return output
