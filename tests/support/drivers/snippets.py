"""Code in documents, so that tests can run it: blocks marked with `<!-- run: NAME -->`."""

import ast
import re
from collections.abc import Awaitable
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
_BLOCK = re.compile(r"<!-- run: (?P<name>\w+) -->\n```(?:python|html)\n(?P<code>.*?)```", re.DOTALL)


def block(page: str, name: str, *, url: str = "") -> str:
    """The text of block `name` of the document `page`. With `url`, that replaces the service's usual address.

    Raises:
        KeyError: the page has no such block.
    """
    whole = (ROOT / page).read_text(encoding="utf-8")
    found = {match["name"]: match["code"] for match in _BLOCK.finditer(whole)}
    return found[name].replace("http://127.0.0.1:8765", url) if url else found[name]


def snippet(page: str, name: str, *, url: str = "") -> CodeType:
    """A block of Python, compiled; it may use `await` outside of functions. Raises as `block`."""
    text = block(page, name, url=url)
    code = compile(text, f"{page}#{name}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, CodeType)
    return code


async def run(code: CodeType, names: dict[str, Any]) -> None:
    """Run a block with `names` as its globals."""
    result = eval(code, names)
    if isinstance(result, Awaitable):
        await result
