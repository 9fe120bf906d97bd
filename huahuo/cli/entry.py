"""The `huahuo` program: `--version` at once, everything else by the command line.

Importing the command line takes more time than `--version` may.

The end of a program that prints: its reader may have closed the pipe, or the disk is full.
"""

import errno
import gc
import io
import os
import select
import sys
from collections.abc import Callable

_INTERRUPTED = 130
"""What a shell says of a program that Ctrl-C ended."""


def to_its_end(run: Callable[[], None]) -> None:
    """Run it, and flush what it printed. A closed pipe is no fault: its reader has what it wanted.

    How the program ends otherwise stays as it is. A character that the terminal's encoding lacks is printed
    as an escape.
    """
    ended: SystemExit | None = None
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            run()
        except SystemExit as error:
            ended = error
        except KeyboardInterrupt:
            ended = SystemExit(_INTERRUPTED)
        if sys.stdout is not None:  # it was not closed before the start
            sys.stdout.flush()
    except OSError as error:
        if not (error.errno == errno.ENOSPC or (error.errno == errno.EPIPE and _nobody_reads())):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        if error.errno == errno.ENOSPC:
            sys.exit("huahuo: cannot write: the disk is full")
    except KeyboardInterrupt:  # while it was flushed
        ended = SystemExit(_INTERRUPTED)
    if ended is not None:
        raise ended


def _nobody_reads() -> bool:
    """Whether it is standard output that is broken, and not a socket."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    return any(flags & (select.POLLERR | select.POLLHUP) for _, flags in output.poll(0))


_YOUNG_OBJECTS = 100_000
"""What a program imports stays: at Python's default of 2,000 the collector took a tenth of the start to look
at it again and again. What serves sets its own bound (`huahuo.app.process`)."""


def main() -> None:
    """Answer `--version`, or run the command line."""
    to_its_end(_program)


def _program() -> None:
    if sys.argv[1:] == ["--version"]:
        from huahuo.build import BUILD

        print(BUILD)  # noqa: T201
        return
    gc.set_threshold(_YOUNG_OBJECTS)
    guarded(_command_line)


def guarded(run: Callable[[], None]) -> None:
    """Run it; end with one line if a package is not installed, as after `git pull` of a new dependency."""
    try:
        run()
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "huahuo"):
            raise
        sys.exit(
            f"huahuo: the module {name} is not installed. An update may need new packages:"
            " run `make setup` in a checkout, `pip install --upgrade huahuo` elsewhere"
        )


def _command_line() -> None:
    from huahuo.cli.main import main as command_line

    command_line()
