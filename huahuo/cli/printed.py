"""The end of a program that prints: its reader may have closed the pipe, or the disk is full."""

import errno
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
