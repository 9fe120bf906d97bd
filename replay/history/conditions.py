"""Paths into states in their JSON form, differences of two states, and conditions over one. Pure.

A path is written as `check.progress`, `emails.17.status` or `cursors["imap.example.org"].INBOX.uid`. A
condition is what a user types, as `status == "error" and progress > 50`:

    condition  = both { "or" both }
    both       = negated { "and" negated }
    negated    = "not" negated | compared
    compared   = operand [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "contains" ) operand ]
    operand    = "(" condition ")" | number | "text" | 'text' | true | false | null | path

A condition is parsed into data and never evaluated as a program. A missing field reads as null. A
comparison of values that have no order (null < 5, "a" < 5) is false.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

type Path = tuple[str, ...]

_NAME: Final = re.compile(r"[^.\[\]\"]+")
_PATH_CHARS_MAX: Final = 500


class Missing:
    """The type of `MISSING`, which marks an absent value, as opposed to null."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = Missing()


class Change(msgspec.Struct, frozen=True):
    """One difference. `before` or `after` is `MISSING` if the value is absent on that side."""

    path: Path
    before: Any
    after: Any

    def plain(self) -> dict[str, Any]:
        """As JSON, without a side that is missing."""
        sides = {"before": self.before, "after": self.after}
        return {"path": written(self.path)} | {k: v for k, v in sides.items() if v is not MISSING}


def differences(before: Any, after: Any, path: Path = ()) -> list[Change]:
    """The differences, leaf by leaf. Lists are compared index by index."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = [*before, *(name for name in after if name not in before)]
        return [
            change
            for name in names
            for change in differences(before.get(name, MISSING), after.get(name, MISSING), (*path, str(name)))
        ]
    if isinstance(before, list) and isinstance(after, list):
        return differences(dict(enumerate(before)), dict(enumerate(after)), path)
    if type(before) is type(after) and before == after:
        return []
    return [Change(path, before, after)]


def parse_path(text: str) -> Path:
    """Parse a path.

    Raises:
        ValueError: `text` is not a path.
    """
    if len(text) > _PATH_CHARS_MAX:
        raise ValueError(f"a path has at most {_PATH_CHARS_MAX} characters")
    steps: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "[":
            end = text.find('"]', at + 2) if text[at : at + 2] == '["' else text.find("]", at)
            if end < 0:
                raise ValueError(f"no ] in {text[at:]!r}")
            quoted = text[at : at + 2] == '["'
            steps.append(text[at + 2 : end] if quoted else text[at + 1 : end])
            at = end + (2 if quoted else 1)
        else:
            if text[at] == "." and steps:
                at += 1
            match = _NAME.match(text, at)
            if match is None:
                raise ValueError(f"not a path: {text!r}")
            steps.append(match.group())
            at = match.end()
    if not steps:
        raise ValueError("an empty path")
    return tuple(steps)


def written(path: Path) -> str:
    """A path as text that `parse_path` reads."""
    text = ""
    for step in path:
        if _NAME.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def look(state: Any, path: Path) -> Any:
    """The value at `path`, `MISSING` if there is none."""
    for step in path:
        if isinstance(state, Mapping):
            state = state.get(step, MISSING)
        elif isinstance(state, list) and step.isdecimal() and int(step) < len(state):
            state = state[int(step)]
        else:
            return MISSING
    return state


def touches(change: Change, path: Path) -> bool:
    """Whether `change` is at `path`, above it or below it."""
    shared = min(len(change.path), len(path))
    return change.path[:shared] == path[:shared]


CHARS_MAX: Final = 1_000
DEPTH_MAX: Final = 32

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<number>-?\d+(?:\.\d+)?(?![\w.]))
    | (?P<sign>==|!=|<=|>=|<|>|\(|\))
    | (?P<word>[^\s()<>=!"'\[\]]+(?:\["[^"]*"\][^\s()<>=!"'\[\]]*|\[\d+\][^\s()<>=!"'\[\]]*)*)
    )""",
    re.VERBOSE,
)
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda left, right: left in right,
    "contains": operator.contains,
}
_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}


class BadPredicate(ValueError):  # noqa: N818  a fact about the text
    """The text is not a condition. The message says where it goes wrong."""


class Node(msgspec.Struct, frozen=True):
    """A part of a condition: an operator over `left` and `right` (`not` has one operand, `const` none).

    The left side of `const` is the constant itself, that of `path` the path.
    """

    sign: str
    left: Any
    right: Any = None


def parse(text: str) -> Node:
    """Parse a condition. Raises BadPredicate."""
    if len(text) > CHARS_MAX:
        raise BadPredicate(f"a condition has at most {CHARS_MAX} characters")
    reader = _Reader(_tokens(text))
    node = reader.condition(0)
    reader.end()
    return node


def holds(node: Node, state: Any) -> bool:
    """Whether the condition is true for a state in JSON form."""
    return bool(_value(node, state))


def rises(node: Node, rising: frozenset[str]) -> bool:
    """Whether the condition, once true, stays true, given that the fields `rising` never decrease.

    If so, bisection finds the first moment at which it is true.
    """
    match node:
        case Node("and" | "or", left, right):
            return rises(left, rising) and rises(right, rising)
        case Node(">" | ">=", Node("path", path), Node("const", value)):
            return isinstance(value, int | float) and ".".join(path) in rising
        case Node("==", Node("path", path), Node("const", True)) | Node("path", path):
            return ".".join(path) in rising
        case _:
            return False


def fields(node: Node) -> frozenset[Path]:
    """The paths that the condition reads."""
    if node.sign == "path":
        return frozenset((node.left,))
    return frozenset().union(*(fields(one) for one in (node.left, node.right) if isinstance(one, Node)))


def _value(node: Node, state: Any) -> Any:
    match node.sign:
        case "const":
            return node.left
        case "path":
            found = look(state, node.left)
            return None if found is MISSING else found
        case "not":
            return not _value(node.left, state)
        case "and":
            return holds(node.left, state) and holds(node.right, state)
        case "or":
            return holds(node.left, state) or holds(node.right, state)
        case sign:
            return _compare(sign, _value(node.left, state), _value(node.right, state))


def _compare(sign: str, left: Any, right: Any) -> bool:
    if sign in ("==", "!="):
        # Python holds True == 1; JSON does not.
        same = isinstance(left, bool) == isinstance(right, bool) and left == right
        return same == (sign == "==")
    try:
        return bool(_ORDERS[sign](left, right))
    except TypeError:
        return False


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            left = text[at:].strip()
            hint = ": write == to compare" if left.startswith("=") else ""
            raise BadPredicate(f"cannot read {left[:40]!r}{hint}")
        assert match.lastgroup is not None, "each alternative has a name"
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def condition(self, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise BadPredicate(f"nested deeper than {DEPTH_MAX}")
        node = self._both(depth)
        while self._take("or"):
            node = Node("or", node, self._both(depth))
        return node

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise BadPredicate(f"did not expect {self._tokens[self._at][1]!r}")

    def _both(self, depth: int) -> Node:
        node = self._negated(depth)
        while self._take("and"):
            node = Node("and", node, self._negated(depth))
        return node

    def _negated(self, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise BadPredicate(f"nested deeper than {DEPTH_MAX}")
        if self._take("not"):
            return Node("not", self._negated(depth + 1))
        left = self._operand(depth)
        for sign in ("==", "!=", *_ORDERS):
            if self._take(sign):
                return Node(sign, left, self._operand(depth))
        return left

    def _operand(self, depth: int) -> Node:
        if self._at >= len(self._tokens):
            raise BadPredicate("it ends too early")
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "text":
            return Node("const", re.sub(r"\\(.)", r"\1", text[1:-1]))
        if kind == "number":
            return Node("const", float(text) if "." in text else int(text))
        if text == "(":
            node = self.condition(depth + 1)
            if not self._take(")"):
                raise BadPredicate("a ( is not closed")
            return node
        if kind == "word" and text in _WORDS:
            return Node("const", _WORDS[text])
        if kind == "word" and text not in ("and", "or", "not", "in", "contains"):
            try:
                return Node("path", parse_path(text))
            except ValueError as error:
                raise BadPredicate(str(error)) from None
        raise BadPredicate(f"did not expect {text!r}")

    def _take(self, wanted: str) -> bool:
        if self._at < len(self._tokens):
            kind, text = self._tokens[self._at]
            if kind in ("sign", "word") and text == wanted:
                self._at += 1
                return True
        return False
