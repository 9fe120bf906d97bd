"""The command line: `python -m bench all|install|list|short|NAME … [--peers A,B] [--quick] [--rounds N]`."""

import argparse
import contextlib
import importlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import short
from bench.clients import receivers
from bench.harness import plot
from bench.harness.harness import OURS, ROUNDS, Options, StormSizes, facts, save
from bench.harness.procs import raise_files_max
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
TOOLS = Path(".tools/bench")
NODE = Path(".tools/bench-node")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="+", choices=("all", "install", "list", "short", *QUESTIONS), metavar="NAME"
    )
    parser.add_argument("--peers", help="only these, by comma; `none` for huahuo alone")
    parser.add_argument("--quick", action="store_true", help="sizes that say only that it still runs")
    parser.add_argument("--large", action="store_true", help="also sizes that take minutes and gigabytes")
    parser.add_argument("--rounds", type=int, help=f"rounds of each case (default {ROUNDS}, quick 1)")
    parser.add_argument("--directory", type=Path, help="measure the file system of this directory")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where JSON and plots go")
    parser.add_argument("--connections", help="how many in each sheet, by comma; storms: of each user")
    parser.add_argument("--rate", help="same_rate: events a second, by comma")
    parser.add_argument("--no-capacity", action="store_true", help="same_rate: only at this rate")
    _add_storm_options(parser)
    arguments = parser.parse_args()
    if "install" in arguments.names:
        return install()
    if "short" in arguments.names:
        return short.run(arguments.results)
    names = list(QUESTIONS) if {"all", "list"} & set(arguments.names) else arguments.names
    if "list" in arguments.names:
        for name in names:
            print(f"{name:14} {question(name)}")
        return 0
    raise_files_max()
    machine = facts()
    stamp = rfc3339(SystemAmbient().now_ms())[:19].replace(":", "")
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="bench-") as kept:
        for name in names:
            began_s = time.monotonic()
            folder = Path(kept) / name
            folder.mkdir()
            options = Options(
                quick=arguments.quick,
                rounds=arguments.rounds or (1 if arguments.quick else ROUNDS),
                folder=folder,
                receiver=receivers.build(TOOLS),
                peers=_peers(arguments.peers),
                large=arguments.large,
                storms=_storm_sizes(arguments),
                connections=_numbers(arguments.connections),
                rates=_numbers(arguments.rate),
                capacity=not arguments.no_capacity,
            )
            print(f"== {name}: {question(name)}", flush=True)
            sheets = importlib.import_module(f"bench.questions.{name}").run(options)
            shutil.rmtree(folder)
            for sheet in sheets:
                print(f"\n{sheet.text()}\n", flush=True)
            path = save(name, stamp, question(name), sheets, machine, arguments.results)
            drawn = plot.draw(question(name), sheets, path.with_suffix(".png"))
            took_s = time.monotonic() - began_s
            print(f"written after {took_s:.0f} s: {path}{' and its plot' if drawn else ''}\n", flush=True)
    return 0


def _add_storm_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("storms")
    group.add_argument("--requests", help="only these, by comma: lists,snapshots,…")
    group.add_argument("--variants", help="only these, by comma: reading,not reading,leaving")
    group.add_argument("--users", help="how many users storm, by comma (default 1,100)")
    group.add_argument("--mailboxes", type=int, help="of all users together; many_mailboxes: of the one user")
    group.add_argument("--seconds", type=float, help="how long a storm goes on")
    group.add_argument("--workers", type=int, default=1, help="of the service")
    group.add_argument("--memory-mib", type=int, default=512, help="what the service has; 0: all there is")
    group.add_argument("--after-s", type=float, help="when memory is looked at after a storm, seconds")


def _storm_sizes(arguments: argparse.Namespace) -> StormSizes:
    connections = _numbers(arguments.connections)
    return StormSizes(
        requests=_listed(arguments.requests),
        variants=_listed(arguments.variants),
        users=_numbers(arguments.users),
        connections=None if connections is None else connections[0],
        mailboxes=arguments.mailboxes,
        workers=arguments.workers,
        memory_mib=arguments.memory_mib,
        seconds=arguments.seconds,
        after_s=arguments.after_s,
    )


def _listed(names: str | None) -> list[str] | None:
    return None if names is None else names.split(",")


def _numbers(text: str | None) -> list[int] | None:
    return None if text is None else [int(number) for number in text.split(",")]


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
    NODE.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(Path("bench/servers/peers/node") / file, NODE / file)
    return code or subprocess.call([npm, "ci", "--no-audit", "--no-fund"], cwd=NODE)


def _peers(names: str | None) -> frozenset[str] | None:
    if names is None:
        return None
    return frozenset({OURS, *names.split(",")})


if __name__ == "__main__":
    raise SystemExit(main())
