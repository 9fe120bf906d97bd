"""What the code weighs: files, code lines and tokens of product, tests and bench, held against ceilings.

    .venv/bin/python -m scripts.weight            each folder
    .venv/bin/python -m scripts.weight --check    exits with 1 if a group is above its ceiling (make check)

A code line holds a token that is neither comment nor docstring. Tokens count too: lines can be joined, tokens
cannot. `weight.json` has the ceilings. A change that makes the code lighter lowers them. Only a new feature
raises them, and its commit says what it costs.
"""

import argparse
import ast
import io
import json
import subprocess
import sys
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

CEILINGS = Path(__file__).with_name("weight.json")
PRODUCT = frozenset({"actors", "eventstore", "huahuo", "mailcheck", "replay", "transport"})
WEIGHTLESS = frozenset(
    {
        *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
        *(tokenize.ENCODING, tokenize.ENDMARKER),
    }
)


class Weight(NamedTuple):
    """Of a file, a folder or a group."""

    files: int = 0
    lines: int = 0
    tokens: int = 0

    def plus(self, other: "Weight") -> "Weight":
        """Both together."""
        return Weight(*map(sum, zip(self, other, strict=True)))


def weight_of(source: str) -> Weight:
    """The weight of one module."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            documented.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    tokens = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in WEIGHTLESS and token.start[0] not in documented:
            tokens += 1
            lines.update(range(token.start[0], token.end[0] + 1))
    return Weight(1, len(lines), tokens)


def group_of(path: Path) -> str:
    """`product`, or the folder at the top."""
    return "product" if path.parts[0] in PRODUCT else path.parts[0]


def weigh(paths: list[Path]) -> tuple[dict[str, Weight], dict[str, Weight]]:
    """By folder, and by group."""
    folders: dict[str, Weight] = defaultdict(Weight)
    groups: dict[str, Weight] = defaultdict(Weight)
    for path in paths:
        found = weight_of(path.read_text("utf-8"))
        folder, group = str(path.parent), group_of(path)
        folders[folder], groups[group] = folders[folder].plus(found), groups[group].plus(found)
    return folders, groups


def over(groups: dict[str, Weight], ceilings: dict[str, dict[str, int]]) -> list[str]:
    """A sentence for each ceiling that is exceeded."""
    return [
        f"{group}: {getattr(groups[group], what):,} {what}, and the ceiling is {most:,}"
        for group, bounds in ceilings.items()
        for what, most in bounds.items()
        if getattr(groups[group], what) > most
    ]


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    done = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, text=True, check=True)  # noqa: S607
    paths = [Path(name) for name in done.stdout.split("\n") if name]
    folders, groups = weigh([path for path in paths if path.is_file() and not path.is_symlink()])
    if check:
        exceeded = over(groups, json.loads(CEILINGS.read_text("utf-8")))
        for line in exceeded:
            sys.stderr.write(f"weight: {line}\n")
        return bool(exceeded)
    for named in (folders, groups):
        for name, (files, lines, tokens) in sorted(named.items(), key=lambda item: -item[1].lines):
            sys.stdout.write(f"{name:32} {files:5} files {lines:7} lines {tokens:8} tokens\n")
        sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
