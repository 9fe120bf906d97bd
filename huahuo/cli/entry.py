"""The `huahuo` program: `--version` at once, everything else by the command line.

Importing the command line takes more time than `--version` may.
"""

import gc
import sys
from collections.abc import Callable

from huahuo.cli.printed import to_its_end

_YOUNG_OBJECTS = 100_000
"""What a program imports stays: at Python's default of 2,000 the collector took a tenth of the start to look
at it again and again. What serves sets its own bound (`huahuo.app.loops`)."""


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
