"""The text that a mail shows, without markup, links and addresses, in linear time. Pure."""

import html
import re

from huahuo.eventstore.fulltext.words import normalized
from huahuo.mailcheck.codes.words import simple

TEXT_CHARS_MAX = 64 * 1024
"""How much of a mail is searched. A code stands near the beginning."""
_HTML_CHARS_MAX = 4 * TEXT_CHARS_MAX
"""How much markup is read for that text: style sheets come first."""

_HIDDEN = (("<!--", "-->"), ("<script", "</script"), ("<style", "</style"), ("<title", "</title"))
_BREAK = re.compile(
    r"<(?:br|hr|/?(?:p|div|tr|table|h[1-6]|li|[uod]l|d[td]|blockquote|center|t[dh]|pre|section|article))\b[^<>]*>",
    re.IGNORECASE,
)
_GAPS = re.compile(r"\n[ \t]*\n[ \t]*\n[ \t\n]*")
"""Tables in tables: however many blocks end and begin, one line is left free."""
_NUMBERED = re.compile(r"&#([0-9]{9,})")
_TAG = re.compile(r"<[^<>]*>")
_LINK = re.compile(r"(?:https?://|www\.)[!-;=?-~]+", re.IGNORECASE)
_ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_BLANKS = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_CELLS = re.compile(r"(?<![^\n])[ ]?[0-9A-Z](?:[^\S\n]{0,8}\n\s{0,8}[0-9A-Z]){3,7}(?=\s*(?:\n|$))")
"""A code with a line, or a cell of a table, for each of its characters."""
_CELL = re.compile(r"\n\s{0,8}[0-9A-Z]\s{0,8}\n")
_LINE_OF_DIGITS = re.compile(r"\n ?[0-9]{2,4}[^\S\n]{0,8}\n")
_GROUP_CELLS = re.compile(
    r"(?<![0-9 ]\n)(?<![^\n])[ ]?(?:[0-9]{3}(?:[^\S\n]{0,8}\n\s{0,8}[0-9]{3})|"
    r"[0-9]{4}(?:[^\S\n]{0,8}\n\s{0,8}[0-9]{4})|[0-9]{2}(?:[^\S\n]{0,8}\n\s{0,8}[0-9]{2}){2})"
    r"(?=[^\S\n]{0,8}(?:\n\s{0,8}[^\s0-9]|\n?$))"
)
"""One with a line, or a cell of a table, for each of its groups; or prices, hours, scores, lengths."""
_LINE_CHARS = 120
_GROUPS_OF_CODE = re.compile(
    r"code|pin\b|otp\b|password|digits|kennwort|passwort|ziffern|zahlen|mot de passe|chiffres|código|clave|"
    r"contraseña|cifras|dígitos|код|парол|цифр|码|碼|口令|数字|コード|番号|パスワード|코드|번호|숫자|암호",
    re.IGNORECASE,
)
"""In the line directly before such groups."""
_SPACED = str.maketrans(
    {
        "，": ", ", "。": ". ", "、": ", ", "；": "; ", "：": ": ", "！": "! ", "？": "? ",
        "（": " (", "）": ") ",
        "【": " [", "】": "] ", "「": ' "', "」": '" ', "『": ' "', "』": '" ', "“": ' "', "”": '" ',
        "«": ' "',
        "»": '" ', "„": ' "', "–": "-", "—": "-", "‐": "-", "‑": "-", "－": "-", "−": "-", "İ": "I",
        "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "", "\ufeff": "", "\u00ad": "",
        "\r": "\n",
    }
)  # fmt: skip
"""Wide punctuation gets the space that it contains, else `482913，10` were one number."""


def own_words(text: str) -> str:
    """`text` without the lines that it quotes."""
    if "\n>" not in text:
        return text
    return "\n".join(line for line in text[:TEXT_CHARS_MAX].split("\n") if not line.startswith(">"))


def own_markup_of(markup: str) -> str:
    """`markup` without what it quotes."""
    shown = markup[:_HTML_CHARS_MAX]
    return _without(shown, "<blockquote", "</blockquote") if "<blockquote" in shown else markup


def stripped(markup: str) -> str:
    """The text of HTML, a line for each block."""
    shown = markup[:_HTML_CHARS_MAX]
    for begin, end in _HIDDEN:
        shown = _without(shown, begin, end)
    shown = _TAG.sub("", _BREAK.sub("\n", shown.replace("\n", " ")))
    shown = _GAPS.sub("\n\n", shown)
    return html.unescape(_NUMBERED.sub(_shortened, shown))[:TEXT_CHARS_MAX]


def _shortened(reference: re.Match[str]) -> str:
    """The same character by at most eight digits, as `int` takes no more than some thousand of them."""
    return f"&#{reference[1].lstrip('0')[:8] or '0'}"


def _without(markup: str, begin: str, end: str) -> str:
    """`markup` without what stands between. A regular expression takes quadratic time if no end comes."""
    lower = markup.lower()
    if len(lower) != len(markup):  # a letter whose small form is longer
        lower = markup
    kept: list[str] = []
    at = 0
    while (start := lower.find(begin, at)) >= 0:
        kept.append(markup[at:start])
        at = lower.find(end, start)
        if at < 0:
            return "".join(kept)
    return "".join(kept) + markup[at:]


def plain(text: str) -> str:
    """`text` with narrow digits, one blank between words, and neither links nor addresses."""
    shown = text[:TEXT_CHARS_MAX]
    if shown.isascii():
        shown = shown.replace("\r", "\n")
    else:
        shown = normalized(shown.translate(_SPACED))[:TEXT_CHARS_MAX]
    if "://" in shown or "ww" in shown or "WW" in shown:
        shown = _LINK.sub(" ", shown)
    if "@" in shown:
        shown = _ADDRESS.sub(" ", shown)
    if "  " in shown or "\t" in shown or not shown.isascii():
        shown = _BLANKS.sub(" ", shown)
    if _LINE_OF_DIGITS.search(shown):
        shown = _GROUP_CELLS.sub(_joined, shown)
    if not _CELL.search(shown):
        return shown
    return _CELLS.sub(lambda cells: "".join(cells[0].split()), shown)


def _joined(cells: re.Match[str]) -> str:
    """The groups of a code on one line, if the line before says that it is one or there is none before."""
    before = cells.string[max(0, cells.start() - _LINE_CHARS) : cells.start()].rstrip()
    if before and _GROUPS_OF_CODE.search(before.rpartition("\n")[2]) is None:
        return cells[0]
    return " ".join(cells[0].split())


def folded(shown: str) -> str:
    """`shown` as the lists of words have it: in lower case and simplified characters, at the same places."""
    lower = shown.lower()
    if lower.isascii():
        return lower
    if len(lower) != len(shown):  # a letter whose small form is longer
        lower = "".join(char.lower() if len(char.lower()) == 1 else char for char in shown)
    return simple(lower)
