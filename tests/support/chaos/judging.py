"""Whether anything was lost, doubled or out of order, by what clients saw and what the replicas hold."""

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.support.chaos.crowd import Member
from tests.support.servers.serving import Serving


def complaints(members: Sequence[Member]) -> list[str]:
    """What is wrong with what the clients saw. Empty: nothing."""
    found: list[str] = []
    by_stream: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        by_stream[member.stream].append(member)
    for stream, readers in by_stream.items():
        first = readers[0]
        said = [(by, n) for _, by, n in first.got]
        for reader in readers:
            found += _of_reader(reader, first)
        for what, count in Counter(said).items():
            if count > 1:
                found.append(f"doubled: {what} is {count} times in {stream}")
        for member in readers:
            theirs = [n for by, n in said if by == member.number]
            lost = set(member.acknowledged) - set(theirs)
            found += [
                f"lost: {stream} has no {(member.number, n)}, which was acknowledged" for n in sorted(lost)
            ]
            if theirs != sorted(theirs):
                found.append(f"out of order: {stream} has {theirs} of client {member.number}")
    return found


def _of_reader(reader: Member, first: Member) -> Iterable[str]:
    seqs = [seq for seq, _, _ in reader.got]
    if seqs != list(range(1, len(seqs) + 1)):
        yield f"gap or double: client {reader.number} saw {_around(seqs)} of {reader.stream}"
    if reader.got != first.got:
        yield f"two histories: clients {reader.number} and {first.number} of {reader.stream} differ"
    if reader.resets:
        yield f"reset: client {reader.number} was told {reader.resets}"


def _around(seqs: Sequence[int]) -> str:
    wrong = next((at for at, seq in enumerate(seqs) if seq != at + 1), len(seqs))
    return f"… {', '.join(map(str, seqs[max(0, wrong - 2) : wrong + 3]))} …"


def ends(data: Path) -> Mapping[int, tuple[bytes, bytes]]:
    """The chain and the digest of a stopped node after each of the proposals that it still remembers."""
    with contextlib.closing(sqlite3.connect(data / "log.db")) as database:
        return {
            offset: (chain, digest) for offset, chain, digest, _ in database.execute("SELECT * FROM passed")
        }


def of_replicas(nodes: Mapping[str, Serving]) -> list[str]:
    """What is wrong with the replicas of stopped nodes, by their chains and by `huahuo doctor --check`."""
    found: list[str] = []
    replicas = {name: ends(node.data) for name, node in nodes.items()}
    (first, of_first), *others = replicas.items()
    for name, of_other in others:
        both = of_first.keys() & of_other.keys()
        if not both:
            found.append(f"{first} and {name} have no proposal in common that both remember")
        if any(of_first[offset] != of_other[offset] for offset in both):
            found.append(f"the chains of {first} and {name} differ")
    for name, node in nodes.items():
        ran = subprocess.run(
            [sys.executable, "-m", "huahuo", "doctor", "--check", "--json", "--data", str(node.data)],
            env=node.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        judged = [one for one in json.loads(ran.stdout) if re.fullmatch(r"I\d+", one["about"])]
        if not judged:
            found.append(f"doctor --check of {name} judged nothing: {ran.stdout}{ran.stderr}")
        found += [f"{name}: {one['about']} {one['text']}" for one in judged if one["level"] != "ok"]
    return found
