"""Runs of the simulator from the command line; `make sim` and `make proof` call it.

    python -m tests.support.simulator --seed 7                    one seed, for as long as it says
    python -m tests.support.simulator --seed 7 --hours 2          the same, for two hours of its service
    python -m tests.support.simulator --seeds 0-199 --jobs 2      many seeds, with the table and its gate
    python -m tests.support.simulator --plan '{…}'                exactly this plan, as a failure prints it

A failure prints the command that repeats it, shrinks it, and is noted in `failing_seeds.txt` beside this
file: the tests run what stands there, for ever.
"""

import argparse
import gc
import math
import os
import sys
import time
import warnings
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import msgspec

from tests.support.simulator.loop import OutOfTime
from tests.support.simulator.plan import Plan, plan, tours, with_clusters, words
from tests.support.simulator.report import Result, Sum, kinds_of, run, shrunk

type _Ran = tuple[Result, str | None] | None

KEPT = Path(__file__).with_name("failing_seeds.txt")
SAY_S = 60.0
"""Seconds between two lines of progress."""
EVERY_SAME = 33
"""One seed in this many runs twice: its trace must be the same."""


def main() -> int:
    """See the module; the exit code."""
    options = _options()
    _hush()
    if options.plan is not None:
        return _one(msgspec.json.decode(options.plan, type=Plan), shrink=options.shrink)
    if options.seed is not None:
        return _one(plan(options.seed, options.hours, options.engine), shrink=options.shrink)
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    return run_many(seeds, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make sim", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", default="0-19", help="a range of seeds, as 0-99")
    parser.add_argument("--hours", type=float, help="how long each service lives, in virtual hours")
    parser.add_argument("--engine", choices=("memory", "sqlite"), help="only this engine")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument(
        "--within-s", type=float, default=0.0, help="cut short what runs then; it is not counted"
    )
    parser.add_argument("--plan", help="a plan as a failure prints it")
    parser.add_argument(
        "--gate",
        action="store_true",
        help="begin with the tours; fail if a mark, or with all seeds a goal, was missed",
    )
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="do not shrink a failure")
    return parser.parse_args()


def _prepare() -> None:
    """Of a process that runs many seeds: what is there before the first is never collected."""
    _hush()
    gc.collect()
    gc.freeze()


def _hush() -> None:
    warnings.simplefilter("ignore", ResourceWarning)  # a crash closes nothing


def _one(asked: Plan, *, shrink: bool) -> int:
    print(f"seed {asked.seed}: {words(asked)}", flush=True)
    began_s = time.monotonic()
    done = run(asked)
    total = Sum()
    total.add(done)
    print(total.table(str(asked.seed), time.monotonic() - began_s))
    print(f"trace {done.trace}")
    if done.failed:
        _tell(done, shrink=shrink)
    return bool(done.failed)


def run_many(seeds: range, options: argparse.Namespace) -> int:
    began_s, total, same = time.monotonic(), Sum(), 0
    said_s = began_s
    until_s = began_s + options.within_s if options.within_s else math.inf
    first = tours() if options.gate else ()
    waiting = deque((one, math.inf) for one in first)
    waiting.extend((plan(seed, options.hours, options.engine), until_s) for seed in with_clusters(seeds))
    with ProcessPoolExecutor(options.jobs, initializer=_prepare) as pool:
        running: dict[Future[_Ran], int] = {}
        while True:
            while waiting and len(running) < options.jobs * 2 and time.monotonic() < waiting[0][1]:
                asked, at_most_s = waiting.popleft()
                running[pool.submit(timed, asked, at_most_s)] = asked.seed
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                seed = running.pop(future)
                if (ran := future.result()) is None:
                    total.cut_short += 1
                    continue
                done, again = ran
                same += again is not None
                if again is not None and again != done.trace:
                    done = msgspec.structs.replace(
                        done, failed=(*done.failed, "trace: two runs of the seed differ")
                    )
                total.add(done)
                if done.failed:
                    print(f"seed {seed} FAILED: {done.failed[0]}", flush=True)
            if time.monotonic() - said_s > SAY_S:
                said_s = time.monotonic()
                print(f"{said_s - began_s:.0f} s: {total.sums()}", flush=True)
    total.cut_short += len(waiting)
    print(total.table(f"{seeds[0]}-{seeds[-1]}", time.monotonic() - began_s))
    print(f"{same} seeds ran twice, each with one trace")
    for one in total.failed[:1]:
        _tell(one, shrink=options.shrink and not options.within_s)
    missing = total.missing(marks=options.gate)
    short = total.short_of_goals()
    if options.gate and not total.cut_short:
        missing += short
    if options.gate and total.runs <= len(first):
        missing.append("no seed was over in time")
    for text in missing:
        print(f"NOT PROVED: {text}")
    if total.cut_short and short:
        print(f"the time was up, so the goals are not judged; not reached: {'; '.join(short)}")
    return bool(total.failed or missing)


def timed(asked: Plan, until_s: float) -> _Ran:
    """A run, and the trace of a second one if this seed has one and there was time for it.

    None: the time was up before the end of the first.
    """
    try:
        done = run(asked, until_s)
    except OutOfTime:
        return None
    if asked.seed % EVERY_SAME != EVERY_SAME - 1:
        return done, None
    try:
        return done, run(asked, until_s).trace
    except OutOfTime:
        return done, None


def _tell(one: Result, *, shrink: bool) -> None:
    """How to repeat a failure, in whole and shrunk."""
    for text in one.failed:
        print(f"  {text}")
    print(f"repeat it:  {_command(one.plan)}")
    if shrink:
        small = shrunk(msgspec.json.decode(one.plan, type=Plan), kinds_of(one))
        print(f"shrunk to {words(small)}:  {_command(msgspec.json.encode(small).decode())}")
    print(f"write the plan into {KEPT.name}, and it is run for ever", flush=True)


def _command(asked: str) -> str:
    return f"PYTHONHASHSEED=0 .venv/bin/python -m tests.support.simulator --no-shrink --plan '{asked}'"


if __name__ == "__main__":
    sys.exit(main())
