"""The text that is searched for codes: without links, addresses and what is quoted, in linear time. Pure."""

import re
import unicodedata

from huahuo.eventstore.fulltext.words import normalized
from huahuo.mailcheck.codes.words import FROM, simple
from huahuo.mailcheck.mime.shown import TEXT_CHARS_MAX

_LINK = re.compile(r"(?:https?://|www\.)[!-;=?-~]+", re.IGNORECASE)
_ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_EARLIER = re.compile(
    r"^ ?[-_*=]{3,40} ?[^\W\d_][^\n]{2,40}[^\W\d_] ?[-_*=]{3,40} ?$"
    r"|^(?=[^\n]{0,200}\d{1,2}[:.]\d\d)(?=[^\n]{0,200}<[^\n<>]{1,100}@)[^\n]{8,300}[:\uff1a] ?\n(?!\n? ?>)"
    rf"|^ ?(?:{'|'.join(FROM)}) ?[:\uff1a][^\n]+\n(?: ?[^\n:\uff1a]{{1,24}}[:\uff1a][^\n]*(?:\n|\Z)){{2}}",
    re.MULTILINE | re.IGNORECASE,
)
"""`--- Original Message ---`, `On …, at 10:02, Support <…> wrote:` or `From: …` with two more headers.

What was written before follows. Where lines with `>` follow, these alone are left out.
"""
_DIGITS = re.compile(r"(?![0-9])\d")
_MARKS = re.compile(r"^(?:> ?)+", re.MULTILINE)
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
    """`text` without what it quotes of an earlier mail, or passes on."""
    shown = text[:TEXT_CHARS_MAX]
    begun = _EARLIER.search(shown) if "\n" in shown else None
    if begun:
        shown = shown[: begun.start()]
    elif "\n>" not in shown:
        return shown
    return "\n".join(line for line in shown.split("\n") if not line.startswith(">"))


def plain(text: str) -> str:
    """`text` with narrow digits, one blank between words, and neither links nor addresses."""
    shown = text[:TEXT_CHARS_MAX]
    if ">" in shown:
        shown = _MARKS.sub("", shown)
    if shown.isascii():
        shown = shown.replace("\r", "\n")
    else:
        shown = _DIGITS.sub(_of_ascii, normalized(shown.translate(_SPACED))[:TEXT_CHARS_MAX])
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


def _of_ascii(digit: re.Match[str]) -> str:
    return str(unicodedata.digit(digit[0]))


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
