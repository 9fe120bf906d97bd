"""The text that a browser shows of HTML, in linear time. Pure; any markup gives a text.

Comments, style sheets and what is hidden leave nothing, not even a blank. A block is a line, and what is
quoted of an earlier mail begins with `> `, as in plain text.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator

import msgspec

TEXT_CHARS_MAX = 64 * 1024
"""How much text is given."""
_HTML_CHARS_MAX = 4 * TEXT_CHARS_MAX
"""How much markup is read for it: style sheets come first."""
_RULES_MAX = 500
_SHEET_CHARS_MAX = 64 * 1024

_TOKEN = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))|<[!?][^>]*(?:>|\Z)"
    r"|<(?P<raw>script|style|title|textarea)\b[^<>]*>(?P<inside>.*?)(?:</(?P=raw)\b[^<>]*(?:>|\Z)|\Z)"
    r"|<(?P<end>/?)(?P<name>[a-z][a-z0-9:-]{0,30})(?P<attributes>(?:[^<>\"']|\"[^\"<]*\"|'[^'<]*'|[\"'])*+)>",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r"([^\s=\"'/]+)\s*(?:=\s*(\"[^\"]*\"|'[^']*'|[^\s\"']+))?")
_BRACE = re.compile(r"([{}])")
_REMARK = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_SELECTOR = re.compile(r"[a-z0-9]*[.#][\w-]+|[a-z0-9]+")
_BLOCKS = frozenset((
    "article", "blockquote", "br", "center", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6",
    "hr", "li", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul",
))  # fmt: skip
_EMPTY = frozenset((
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param",
    "source", "track", "wbr",
))  # fmt: skip
_ENDED_BY_ITSELF = frozenset(("p", "li", "td", "th", "tr", "dt", "dd"))
_QUOTES = re.compile(r"gmail_quote|yahoo_quoted|moz-cite|protonmail_quote", re.IGNORECASE)
_NONE = re.compile(r"[+-]?0+(?:\.0*)?(?:[a-z]+|%)?")
_TINY = re.compile(_NONE.pattern + "|1px")
_FAR = re.compile(r"-\d{3,}(?:\.\d*)?(?:px|em|%|pt)")
_RGB = re.compile(r"rgba?\((\d{1,3}),(\d{1,3}),(\d{1,3})(?:,1)?\)")
_COLOURS = {"white": "#ffffff", "black": "#000000"}
_BLANKS = re.compile(r"\s+")
_GAPS = re.compile(r"\n[ \t]*\n[ \t]*\n[ \t\n]*")
"""Tables in tables: however many blocks end and begin, one line is left free."""
_NUMBERED = re.compile(r"&#([0-9]{9,})")


class _Element(msgspec.Struct, frozen=True, gc=False):
    """What an open element does to the text in it."""

    name: str = ""
    gone: bool = False
    """Whatever stands in it. What is merely `small` or `unseen`, an element in it may show again."""
    small: bool = False
    unseen: bool = False
    quoted: bool = False
    kept: bool = False
    """Its lines are."""
    colour: str = ""
    background: str = ""

    @property
    def shows(self) -> bool:
        """Whether its own text is seen."""
        of_its_ground = self.colour in ("transparent", self.background) and self.colour != ""
        return not (self.gone or self.small or self.unseen or of_its_ground)


def shown_text(markup: str) -> str:
    """The text of HTML, a line for each block."""
    shown = _GAPS.sub("\n\n", "".join(_pieces(markup[:_HTML_CHARS_MAX])))
    return shown[:TEXT_CHARS_MAX]


def _pieces(markup: str) -> Iterator[str]:
    opened, names, rules = [_Element()], Counter[str](), dict[str, dict[str, str]]()
    at = 0
    for token in _TOKEN.finditer(markup):
        yield from _text(markup[at : token.start()], opened[-1])
        at = token.end()
        if (token["raw"] or "").lower() == "style":
            _read_sheet(token["inside"], rules)
        if token["name"] is None:
            continue
        name = token["name"].lower()
        top = opened[-1].name
        ended = top in _ENDED_BY_ITSELF and (top == name or (top == "p" and name in _BLOCKS))
        if token["end"]:
            while names[name]:
                last = opened.pop().name
                names[last] -= 1
                if last == name:
                    break
        elif name not in _EMPTY:
            if ended:
                names[opened.pop().name] -= 1
            opened.append(_opened(name, token["attributes"], opened[-1], rules))
            names[name] += 1
        if name in _BLOCKS and opened[-1].shows:
            yield "\n> " if opened[-1].quoted else "\n"
    yield from _text(markup[at:], opened[-1])


def _text(text: str, of: _Element) -> Iterator[str]:
    if not text or not of.shows:
        return
    text = text if of.kept else _BLANKS.sub(" ", text)
    text = html.unescape(_NUMBERED.sub(_shortened, text)) if "&" in text else text
    yield text.replace("\n", "\n> ") if of.quoted else text


def _opened(name: str, attributes: str, parent: _Element, rules: dict[str, dict[str, str]]) -> _Element:
    given = {
        one[1].lower(): html.unescape(_NUMBERED.sub(_shortened, (one[2] or "").strip("\"'")))
        for one in _ATTRIBUTE.finditer(attributes)
    }
    style: dict[str, str] = {}
    marks = [name, *(f".{one}" for one in given.get("class", "").split()), f"#{given.get('id', '')}"]
    for mark in marks if rules else ():
        style |= rules.get(mark, {}) | rules.get(name + mark, {})
    style |= _declared(given.get("style", ""))
    cut = style.get("overflow") == "hidden"
    gone = (
        parent.gone
        or name == "template"
        or ("hidden" in given)
        or style.get("display") == "none"
        or _is(_NONE, style.get("opacity"))
        or (
            cut
            and any(_is(_NONE, style.get(side)) for side in ("max-height", "height", "max-width", "width"))
        )
        or any(_is(_FAR, style.get(side)) for side in ("text-indent", "left", "top"))
    )
    size, seen = style.get("font-size"), style.get("visibility")
    ground = style.get("background-color") or style.get("background") or given.get("bgcolor", "")
    return _Element(
        name,
        gone,
        parent.small if size is None else _is(_TINY, size),
        parent.unseen if seen is None else seen in ("hidden", "collapse"),
        parent.quoted or name == "blockquote" or _QUOTES.search(given.get("class", "")) is not None,
        parent.kept or name == "pre",
        _colour(style.get("color") or given.get("color", "")) or parent.colour,
        _colour(ground) or parent.background,
    )


def _is(form: re.Pattern[str], value: str | None) -> bool:
    return value is not None and value != "" and form.fullmatch(value) is not None


def _declared(style: str) -> dict[str, str]:
    """The declarations of a style, without blanks, in lower case."""
    pairs = (one.partition(":") for one in style.lower().split(";"))
    return {
        name.strip(): "".join(value.split()).removesuffix("!important")
        for name, colon, value in pairs
        if colon
    }


def _read_sheet(sheet: str, rules: dict[str, dict[str, str]]) -> None:
    """Add the rules for a class, an id or a tag that hold on every screen."""
    within: list[str] = []
    parts = iter(_BRACE.split(_REMARK.sub("", sheet[:_SHEET_CHARS_MAX])))
    for before, brace in zip(parts, parts, strict=False):
        if brace == "{":
            within.append(before.strip())
        elif within:
            selectors = within.pop()
            for selector in selectors.split(",") if not within and "@" not in selectors else ():
                one = selector.strip()
                if len(rules) < _RULES_MAX and _SELECTOR.fullmatch(one.lower()):
                    rules[one] = rules.get(one, {}) | _declared(before)


def _colour(value: str) -> str:
    value = "".join(value.lower().split()).removesuffix("!important")
    rgb = _RGB.fullmatch(value)
    if rgb:
        return "#" + "".join(f"{int(part):02x}" for part in rgb.groups())
    if len(value) == len("#fff") and value.startswith("#"):
        return "#" + "".join(digit * 2 for digit in value[1:])
    return _COLOURS.get(value, value)


def _shortened(reference: re.Match[str]) -> str:
    """The same character by at most eight digits, as `int` takes no more than some thousand of them."""
    return f"&#{reference[1].lstrip('0')[:8] or '0'}"
