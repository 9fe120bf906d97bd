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
from typing import Any, NamedTuple

import msgspec

import huahuo
from huahuo.app.plugins import Loaded
from huahuo.errors import ConfigError, HuahuoError
from huahuo.timetravel.app_guide import APP

OURS = Path(huahuo.__file__).resolve().parents[1]
"""The directory of the running code."""
_MODEL = ("huahuo/eventstore/model.py", "eventstore/model.py")
"""A file that every version has, in rooms or flat as before."""
_NO_CODE = {".github", "bench", "docs", "examples", "scripts", "tests", "web"}
"""Folders of the repository that no version of the service needs."""
_APP_GUIDES = (Path(__file__).with_name("app_guide.py"),)
_JUDGE = Path(__file__).with_name("judge.py")


class Code(NamedTuple):
    """Code to run over a history. `guides` say how to ask it. `app`: it is a version of this application."""

    root: Path
    guides: Sequence[Path]
    app: str = ""


@asynccontextmanager
async def code_of(
    path: Path | None, ref: str | None, guides: Sequence[Path], app: Loaded | None = None
) -> AsyncIterator[tuple[Code, Code]]:
    """Today's code and the other version, which a path or a commit names.

    Without `app`, the version is one of huahuo with its plug-ins, and the commit one of this repository. With
    it, a path may hold another version of the application, and a commit is one of its repository.

    Raises:
        ConfigError: there is no such version at this path or commit.
    """
    if path is not None:
        root = path.resolve()  # noqa: ASYNC240  nothing else runs on this loop
        if any((root / model).is_file() for model in _MODEL):
            yield Code(OURS, guides), Code(root, guides)
        elif app is None:
            raise ConfigError(f"{path} holds no version of this project (there is no event store in it)")
        elif not any((root / file).is_file() for file in app.files):
            raise ConfigError(f"{path} holds no version of {app.name} (there is no {app.files[0]} in it)")
        else:
            yield Code(app.root, _APP_GUIDES, app.name), Code(root, _APP_GUIDES, app.name)
        return
    assert ref is not None, "either a path or a ref"
    home = OURS if app is None else app.root
    commit = await _git(home, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    name = commit.decode().strip()
    folders: set[str] = set()
    if app is None:
        folders = set((await _git(home, "ls-tree", "-d", "--name-only", name)).decode().split()) - _NO_CODE
    files = await _git(home, "archive", "--format=tar", name, *sorted(folders))
    with tempfile.TemporaryDirectory(prefix="huahuo-code-") as directory:
        with tarfile.open(fileobj=io.BytesIO(files)) as archive:
            archive.extractall(directory, filter="data")
        root = Path(directory).resolve()  # noqa: ASYNC240
        if app is None:
            yield Code(OURS, guides), Code(root, guides)
        else:
            yield Code(app.root, _APP_GUIDES, app.name), Code(root, _APP_GUIDES, app.name)


async def judged(code: Code, events: Path, trace: list[int], findings: Path) -> Iterator[dict[str, Any]]:
    """The findings of a version about the events in a file without a header, guide by guide.

    `findings`: a folder for them.

    Raises:
        HuahuoError: the version could not be run.
    """
    findings.mkdir(exist_ok=True)  # noqa: ASYNC240  nothing else runs on this loop
    said = [
        await _judged(code, guide, events, trace, findings / str(number))
        for number, guide in enumerate(code.guides)
    ]
    return chain.from_iterable(said)


async def _judged(
    judging: Code, guide: Path, events: Path, trace: list[int], findings: Path
) -> Iterator[dict[str, Any]]:
    root = judging.root
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join([str(root), str(OURS)] if judging.app else [str(root)]),
        **({APP: judging.app} if judging.app else {}),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
    }
    with findings.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(_JUDGE), str(guide), str(events)),
            cwd=root,
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


async def _git(home: Path, *arguments: str) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", "-C", str(home), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError:
        raise ConfigError("git is needed to get another version; --code PATH works without it") from None
    output, said = await process.communicate()
    if b"not a git repository" in said:
        raise ConfigError(f"{home.name} is not in a clone of its repository; --code PATH works without one")
    if process.returncode:
        raise ConfigError(f"git {arguments[0]}: no such version in the repository of {home.name}")
    return output
