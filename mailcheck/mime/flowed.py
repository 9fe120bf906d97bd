"""Text with `format=flowed` (RFC 3676): its paragraphs were broken into lines for the way only. Pure.

With `delsp=yes` they may be broken where no blank is: in the middle of a link or of a Chinese word. A blank
line stays one, also behind a line that wrongly says that its paragraph goes on.
"""

from collections.abc import Iterator
from typing import Final

_SIGNATURE: Final = "-- "


def unflowed(text: str, *, delete_space: bool) -> str:
    """The text with each paragraph on a line of its own. What is quoted keeps its marks."""
    return "\n".join(_paragraphs(text, delete_space=delete_space))


def _paragraphs(text: str, *, delete_space: bool) -> Iterator[str]:
    held: list[str] = []
    held_depth = 0
    for line in text.replace("\r\n", "\n").split("\n"):
        rest = line.lstrip(">")
        depth = len(line) - len(rest)
        rest = rest.removeprefix(" ")
        if held and (depth != held_depth or rest in ("", _SIGNATURE)):
            yield _marked(held_depth, "".join(held))
            held = []
        held_depth = depth
        if rest.endswith(" ") and rest != _SIGNATURE:
            held.append(rest[:-1] if delete_space else rest)
            continue
        yield _marked(depth, "".join((*held, rest)))
        held = []
    if held:
        yield _marked(held_depth, "".join(held))


def _marked(depth: int, paragraph: str) -> str:
    return f"{'>' * depth} {paragraph}" if depth else paragraph
