"""Where does the server spend its time?

    python -m bench.questions.profiling fan_out|private_feeds|resume [CONNECTIONS]

Samples the real service with py-spy while it is flooded, and prints the lines that hold the interpreter
(`self`) and the functions that lead there (`with callees`). `--native` samples C frames too, and `--idle`
what waits for the interpreter's lock.
"""

import argparse
import subprocess
import sysconfig
import tempfile
import threading
from collections import Counter
from pathlib import Path

from bench.clients.receivers import Receivers, build
from bench.harness.harness import OURS, Sheet
from bench.questions.fan_out import METRICS, flood
from bench.questions.private_feeds import IN_FLIGHT
from bench.servers.peers.base import Running
from bench.servers.peers.huahuo import Huahuo

SECONDS = 6
_TOOLS = Path(".tools/bench")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("fan_out", "private_feeds", "resume"))
    parser.add_argument("connections", nargs="?", type=int, default=500)
    parser.add_argument("--native", action="store_true")
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--lines", type=int, default=30)
    options = parser.parse_args()
    how = [*(["--native"] if options.native else []), *([] if options.idle else ["--gil"])]
    with tempfile.TemporaryDirectory() as name:
        folder, peer = Path(name), Huahuo()
        with peer.start(folder) as running:
            stacks = folder / "stacks"
            work = {"fan_out": _fan_out, "private_feeds": _private_feeds, "resume": _resume}[options.what]
            work(peer, running, options.connections, folder, stacks, how)
            tell(stacks, options.lines)


def tell(stacks: Path, lines: int) -> None:
    """Print the counts of a raw py-spy recording."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in stacks.read_text(encoding="utf-8").splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(samples)
        within.update(dict.fromkeys(frames, int(samples)))
        total += int(samples)
    for title, counter in (("self", own), ("with callees", within)):
        print(f"-- {title}")
        for frame, count in counter.most_common(lines):
            print(f"{count / total:7.1%}  {frame}")


def _sampled(running: Running, stacks: Path, how: list[str]) -> threading.Thread:
    command = [str(Path(sysconfig.get_path("scripts")) / "py-spy"), "record", "--format", "raw", "-r", "200"]
    command += ["-d", str(SECONDS), "-o", str(stacks), "-p", str(running.pids[0]), *how]
    thread = threading.Thread(
        target=subprocess.run,
        args=(command,),
        kwargs={"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
    )
    thread.start()
    return thread


def _fan_out(peer: Huahuo, running: Running, count: int, folder: Path, stacks: Path, how: list[str]) -> None:
    sheet = Sheet("", METRICS)
    with Receivers(peer.group(running, count), folder, command=build(_TOOLS)) as receivers:
        receivers.ready()
        thread = _sampled(running, stacks, how)
        flood(running, receivers, count, SECONDS, OURS, sheet)
        thread.join()
    print(sheet.text())


def _private_feeds(
    peer: Huahuo, running: Running, count: int, folder: Path, stacks: Path, how: list[str]
) -> None:
    with Receivers(peer.feeds(running, count), folder, command=build(_TOOLS)) as receivers:
        receivers.ready()
        thread = _sampled(running, stacks, how)
        cpu_s = running.cpu_s()
        done = running.control.ask(cmd="feeds", users=count, in_flight=IN_FLIGHT, seconds=SECONDS)
        cpu_s = running.cpu_s() - cpu_s
        thread.join()
    events = done["published"]
    print(f"{events / SECONDS:,.0f} events/s, {cpu_s / events * 1e6:.1f} µs of the server's processors each")


def _resume(peer: Huahuo, running: Running, count: int, folder: Path, stacks: Path, how: list[str]) -> None:
    running.control.ask(timeout_s=300, cmd="fill", users=count, first=1, each=100)
    script = peer.feeds(running, count, cursors=[0] * count, goal=100)
    thread = _sampled(running, stacks, how)
    with Receivers(script, folder, command=build(_TOOLS)) as receivers:
        receivers.until("done", count, 60)
        thread.join()
        print(f"{receivers.value('done')} caught up")


if __name__ == "__main__":
    main()
