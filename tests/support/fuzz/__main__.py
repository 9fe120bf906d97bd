"""Throws bytes at the targets: `make fuzz SECONDS=600`. What fails is kept in `corpus`, for ever.

python -m tests.support.fuzz                      each target: 60 s where atheris is installed, else 6 s
python -m tests.support.fuzz --seconds 600 IMAP   one target, longer
python -m tests.support.fuzz --blind              by chance alone, also where atheris is installed
"""

import argparse
import sys
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from random import Random

from tests.support.fuzz import guided
from tests.support.fuzz.mutate import mutated
from tests.support.fuzz.targets import TARGETS, Target

CORPUS = Path(__file__).with_name("corpus")
GUIDED_S, BLIND_S = 60.0, 6.0
"""For each target."""
SLOW_S = 0.5
"""Of processor time, for at most 4 KiB: more is a way to hold the service up."""
TRIES = 3
"""What is slow is slow each time. Garbage may be collected in one of them."""


def fault_of(target: Target, data: bytes) -> str:
    """What is wrong with the answer to these bytes; "" if nothing is."""
    took_s = 0.0
    for _ in range(TRIES):
        began_s = time.thread_time()
        try:
            target.read(data)
        except target.errors:
            pass
        except Exception as error:  # noqa: BLE001  that is what is looked for
            return f"{type(error).__name__}: {error}"[:200]
        took_s = time.thread_time() - began_s
        if took_s <= SLOW_S:
            return ""
    return f"took {took_s:.1f} s"


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
    parser.add_argument("--seconds", type=float, help=f"for each target ({GUIDED_S:g}, or {BLIND_S:g} blind)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the bytes")
    parser.add_argument("--blind", action="store_true", help="not guided by coverage")
    parser.add_argument("--atheris", action="store_true", help="guided, one target, in this process")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    is_guided = guided.is_installed() and not options.blind
    seconds = options.seconds or (GUIDED_S if is_guided else BLIND_S)
    if options.atheris:
        _guided(names[0], seconds)
        return 0
    if is_guided:
        codes = {name: guided.in_a_process(name, seconds) for name in names}
        print("failed: " + (", ".join(name for name, code in codes.items() if code) or "nothing"))
        return any(codes.values())
    print(f"seed {options.seed}")
    bad = 0
    for name in names:
        until_s, count = time.monotonic() + seconds, 0
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


def _guided(name: str, seconds: float) -> None:
    def one(data: bytes) -> None:
        if fault := fault_of(TARGETS[name], data):
            raise AssertionError(f"{fault}, kept as {keep(name, data).name}")

    guided.run(one, [*TARGETS[name].seeds, *kept(name)], seconds)


if __name__ == "__main__":
    sys.exit(main())
