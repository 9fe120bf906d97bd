"""A benchmark's child answers its parent on a pipe of its own."""

import sys

from bench.processes import Child

_CHATTY = """
import structlog
from bench.processes import answer
print("2026-11-25 a library prints this")
structlog.get_logger().warning("before the first answer")
answer({"ready": True})
structlog.get_logger().warning("between two answers")
answer({"asked": input()})
"""


def test_a_log_line_on_standard_output_is_not_taken_for_an_answer() -> None:
    with Child([sys.executable, "-c", _CHATTY]) as child:
        assert child.hello == {"ready": True}
        assert child.ask(10, n=1) == {"asked": '{"n": 1}'}
