"""The `huahuo` program: `--version` at once, everything else by the command line.

Importing the command line takes more time than `--version` may.
"""

import sys


def main() -> None:
    """Answer `--version`, or run the command line."""
    if sys.argv[1:] == ["--version"]:
        from huahuo.build import BUILD

        print(BUILD)  # noqa: T201
        return
    from huahuo.cli.main import main as command_line

    command_line()
