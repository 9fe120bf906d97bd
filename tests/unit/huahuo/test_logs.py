"""Lines of the log: what strangers wrote is escaped in them, so that one record cannot look like two."""

import json
import subprocess
import sys

FORGED = "2026-01-01T00:00:00Z [info     ] a line of somebody else"
CANARY = f"a\r\n{FORGED}\x1b[2J\u202e"
PROGRAM = """
import logging
import structlog
from huahuo.app import logs

canary, as_json = {canary}, {as_json}
logs.configure("info", as_json=as_json)
logs.quiet_libraries()
structlog.get_logger().warning("first", subject=canary, more=[canary], raw=canary.encode())
logging.getLogger("asyncio").warning("second %s", canary)
logging.getLogger("asyncio").warning("third %d", canary)
try:
    raise ValueError(canary)
except ValueError:
    structlog.get_logger().exception("fourth " + canary)
    logging.getLogger("asyncio").exception("fifth")
"""
EVENTS = ["first", "second", "third", "fourth", "fifth"]


def said(*, as_json: bool) -> list[str]:
    """What a program wrote in its log, by lines."""
    text = PROGRAM.format(canary=repr(CANARY), as_json=as_json)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True)
    return done.stderr.decode().split("\n")[:-1]


def test_each_record_is_one_line_of_json_whoever_says_it() -> None:
    lines = said(as_json=True)
    assert [json.loads(line)["event"].split()[0] for line in lines] == EVENTS
    assert all(line.isprintable() for line in lines)


def test_in_a_terminal_only_records_begin_at_the_edge_and_no_text_acts_on_it() -> None:
    lines = said(as_json=False)
    records = [line for line in lines if not line.startswith(" ")]
    assert len(records) == len(EVENTS)
    assert all(event in record for event, record in zip(EVENTS, records, strict=True))
    assert all(line.isprintable() for line in lines)
    assert any("ValueError: a" in line for line in lines), "the exception is told"
