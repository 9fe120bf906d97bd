"""Log lines: one event a line, on standard error, escaped, capped, without secrets."""

import contextlib
import logging
import sys
from functools import partial
from typing import Any, TextIO, cast

import structlog

from huahuo.terminal import printable

_VALUE_CHARS_MAX = 500
_EXCEPTION_CHARS_MAX = 16_384


class Bearing:
    """Standard error that may be full or closed. A line that cannot be written is dropped.

    A failure of logging must not stop the handling of what is logged, such as a full disk.
    """

    def write(self, text: str) -> None:
        """Write `text` if possible."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: it was closed
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush if possible."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure(level: str, *, as_json: bool, worker: int = 0) -> None:
    """Set up structlog for the process. Colours only on a terminal. `worker`: its number, on each line."""
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=True)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *([] if not worker else [partial(_of_worker, worker)]),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _one_line,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=cast("TextIO", Bearing())),
        cache_logger_on_first_use=False,
    )


def configure_unless_done(level: str, *, as_json: bool) -> None:
    """Set up structlog, unless the application that we are embedded in has done so.

    Without this, structlog's default shows the local variables of each traceback, secrets among them.
    """
    if not structlog.is_configured():
        configure(level, as_json=as_json)


def quiet_libraries() -> None:
    """Show warnings of libraries that use `logging` as lines of ours. Only for our own programs."""
    logging.basicConfig(level=logging.WARNING, handlers=[_AsOurs()])
    logging.getLogger("pykka").setLevel(logging.CRITICAL)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)


class _AsOurs(logging.Handler):
    """Says what a library logs in the form of our lines, with their escapes."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  arguments that do not fit their text are the library's fault
            text = str(record.msg)
        level = min(record.levelno // 10 * 10, logging.CRITICAL)  # libraries have levels of their own
        structlog.get_logger().log(level, text, library=record.name, exc_info=record.exc_info)


def _of_worker(
    worker: int, _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event["worker"] = worker
    return event


def _one_line(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Remove control and bidirectional characters, with which foreign text could forge or reorder a line.

    A traceback keeps its lines, which are indented: text in an exception cannot look like a line of its own.
    """
    return {key: _clean(value, key) for key, value in event.items()}


def _clean(value: Any, key: str) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if not isinstance(value, str):  # the renderers escape it
        shown = repr(value)
        return value if len(shown) <= _VALUE_CHARS_MAX else printable(_cut(shown, _VALUE_CHARS_MAX))
    if key == "exception":
        return "\n".join(f"  {printable(line)}" for line in _cut(value, _EXCEPTION_CHARS_MAX).split("\n"))
    return printable(_cut(value, _VALUE_CHARS_MAX))


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[:chars_max] + "…"
