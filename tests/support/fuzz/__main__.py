"""Throws bytes at the targets: `make fuzz SECONDS=600`. What fails is kept in `corpus`, for ever.

python -m tests.support.fuzz                      each target for 5 s
python -m tests.support.fuzz --seconds 600 IMAP   one target, longer
python -m tests.support.fuzz --atheris IMAP       guided by coverage, where the package atheris is installed
"""

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from tests.support.fuzz.mutate import mutated
from tests.support.fuzz.targets import TARGETS, Target

CORPUS = Path(__file__).with_name("corpus")
SLOW_S = 0.5
"""Of processor time, for at most 4 KiB: more is a way to hold the service up."""


def fault_of(target: Target, data: bytes) -> str:
    """What is wrong with the answer to these bytes; "" if nothing is."""
    began_s = time.thread_time()
    try:
        target.read(data)
    except target.errors:
        pass
    except Exception as error:  # noqa: BLE001  that is what is looked for
        return f"{type(error).__name__}: {error}"[:200]
    took_s = time.thread_time() - began_s
    return f"took {took_s:.1f} s" if took_s > SLOW_S else ""


def kept(name: str) -> Iterator[bytes]:
    """The inputs that once failed."""
    for file in sorted((CORPUS / _folder(name)).glob("*.bin")):
        yield file.read_bytes()


def inputs(name: str, seed: int) -> Iterator[bytes]:
    """Bytes for a target, without end."""
    chance = Random(f"{name} {seed}")
    seeds = [*TARGETS[name].seeds, *kept(name)]
    while True:
        data = mutated(seeds, chance)
        if len(seeds) < 64 and chance.random() < 0.05:
            seeds.append(data)
        yield data


def keep(name: str, data: bytes) -> Path:
    """Write an input down that failed."""
    folder = CORPUS / _folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{blake2b(data, digest_size=6).hexdigest()}.bin"
    file.write_bytes(data)
    return file


def _folder(name: str) -> str:
    return name.replace(" ", "-").lower()


def main() -> int:
    """See the module; the exit code."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("targets", nargs="*", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=5.0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the bytes")
    parser.add_argument("--atheris", action="store_true", help="guided by coverage, one target")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if options.atheris:
        return _guided(names[0])
    print(f"seed {options.seed}")
    bad = 0
    for name in names:
        until_s, count = time.monotonic() + options.seconds, 0
        for data in inputs(name, options.seed):
            count += 1
            if fault := fault_of(TARGETS[name], data):
                bad += 1
                print(f"{name}: {fault}, kept as {keep(name, data).name}")
                break
            if time.monotonic() > until_s:
                break
        print(f"{name}: {count:,} inputs", flush=True)
    return bool(bad)


def _guided(name: str) -> int:
    atheris: Any = importlib.import_module("atheris")

    def one(data: bytes) -> None:
        if fault := fault_of(TARGETS[name], data):
            raise AssertionError(f"{fault}, kept as {keep(name, data).name}")

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], str(CORPUS / _folder(name))], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
