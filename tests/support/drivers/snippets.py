"""Code in documents, so that tests can run it: blocks marked with `<!-- run: NAME -->`."""

import ast
import re
from collections.abc import Awaitable
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
_BLOCK = re.compile(r"<!-- run: (?P<name>\w+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)


def snippet(page: str, name: str, *, url: str = "") -> CodeType:
    """The compiled block `name` of the document `page`; it may use `await` outside of functions.

    With `url`, the service's usual address in it becomes that one.

    Raises:
        KeyError: the page has no such block.
    """
    whole = (ROOT / page).read_text(encoding="utf-8")
    found = {match["name"]: match["code"] for match in _BLOCK.finditer(whole)}
    text = found[name].replace("http://127.0.0.1:8765", url) if url else found[name]
    code = compile(text, f"{page}#{name}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, CodeType)
    return code


async def run(code: CodeType, names: dict[str, Any]) -> None:
    """Run a block with `names` as its globals."""
    result = eval(code, names)
    if isinstance(result, Awaitable):
        await result
