"""The command line: `python -m bench all|install|list|short|NAME … [--peers A,B] [--quick] [--rounds N]`."""

import argparse
import importlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

from bench import receivers, short
from bench.peers import NODE_MODULES, SERVERS
from bench.processes import raise_files_max
from bench.sheets import OURS, ROUNDS, Options, facts, save
from huahuo.eventstore.ambient import SystemAmbient, rfc3339

QUESTIONS = (
    "fan_out",
    "private_feeds",
    "same_rate",
    "append",
    "resume_storm",
    "footprint",
    "commands",
    "timers",
    "workers",
    "cluster",
    "storms",
    "many_mailboxes",
)
RESULTS = Path("bench/results")


def main() -> int:
    """See the module."""
    given = _parser().parse_args()
    if "install" in given.names:
        return install()
    if "short" in given.names:
        return short.run(given.results)
    names = list(QUESTIONS) if {"all", "list"} & set(given.names) else given.names
    if "list" in given.names:
        for name in names:
            print(f"{name:14} {question(name)}")
        return 0
    given.rounds = given.rounds or (1 if given.quick else ROUNDS)
    given.peers = None if given.peers is None else frozenset({OURS, *given.peers})
    raise_files_max()
    machine = facts()
    stamp = rfc3339(SystemAmbient().now_ms())[:19].replace(":", "")
    given.receiver = receivers.build()
    with tempfile.TemporaryDirectory(dir=given.directory, prefix="bench-") as kept:
        for name in names:
            began_s = time.monotonic()
            given.folder = Path(kept) / name
            given.folder.mkdir()
            print(f"== {name}: {question(name)}", flush=True)
            options = Options(**{field.name: getattr(given, field.name) for field in fields(Options)})
            sheets = importlib.import_module(f"bench.questions.{name}").run(options)
            shutil.rmtree(given.folder)
            for sheet in sheets:
                print(f"\n{sheet.text()}\n", flush=True)
            path = save(name, stamp, question(name), sheets, machine, given.results)
            print(f"written after {time.monotonic() - began_s:.0f} s: {path}\n", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    choices = ("all", "install", "list", "short", *QUESTIONS)
    add("names", nargs="+", choices=choices, metavar="NAME")
    add("--peers", type=_words, help="only these, by comma; `none` for huahuo alone")
    add("--quick", action="store_true", help="sizes that say only that it still runs")
    add("--large", action="store_true", help="also sizes that take minutes and gigabytes")
    add("--rounds", type=int, help=f"rounds of each case (default {ROUNDS}, quick 1)")
    add("--directory", type=Path, help="measure the file system of this directory")
    add("--results", type=Path, default=RESULTS, help="where the JSON goes")
    add(
        "--connections", type=_numbers, default=(), help="how many in each sheet, by comma; storms: of a user"
    )
    add("--rate", type=_numbers, default=(), dest="rates", help="same_rate: events a second, by comma")
    add("--no-capacity", action="store_false", dest="capacity", help="same_rate: only at this rate")
    add("--mailboxes", type=int, default=0, help="many_mailboxes: of the one user; storms: of all together")
    add = parser.add_argument_group("storms").add_argument
    add("--requests", type=_words, default=(), help="only these, by comma: lists,snapshots,…")
    add("--variants", type=_words, default=(), help="only these, by comma: reading,not reading,leaving")
    add("--users", type=_numbers, default=(), help="how many users storm, by comma (default 1,100)")
    add("--seconds", type=float, default=0, help="how long a storm goes on (default 8)")
    add("--workers", type=int, default=1, help="of the service")
    add("--memory-mib", type=int, default=512, help="what the service has; 0: all there is")
    add("--after-s", type=float, default=60, help="when memory is looked at after a storm, seconds")
    return parser


def _words(names: str) -> list[str]:
    return names.split(",")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def question(name: str) -> str:
    """The first line of a module's docstring."""
    return (importlib.import_module(f"bench.questions.{name}").__doc__ or "").strip().splitlines()[0]


def install() -> int:
    """Fetch the peers: the extra `bench`, and the node packages into `.tools`."""
    code = subprocess.call(
        [sys.executable, "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", ".[bench]"]
    )
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not on PATH: no node peers")
        return code
    NODE_MODULES.parent.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(SERVERS / file, NODE_MODULES.parent / file)
    return code or subprocess.call([npm, "ci", "--no-audit", "--no-fund"], cwd=NODE_MODULES.parent)


if __name__ == "__main__":
    raise SystemExit(main())
