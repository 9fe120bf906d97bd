"""Write eventstore/fulltext/simplified.py from the file kSimplifiedVariant.txt of the Unihan database.

A traditional character goes to the simplified one that most texts have: of several, one of GB 2312. The file,
whose path is given, is that of github.com/unicode-org/unihan-database. It has lines such as
`U+767C 發<tab>kSimplifiedVariant<tab>U+53D1`.
"""

import sys
from collections import defaultdict
from pathlib import Path

TARGET = Path(__file__).parent.parent / "eventstore/fulltext/simplified.py"
BLOCK = range(0x4E00, 0xA000)
"""The characters that mails are written with. Rarer ones are found as they are written."""
COLUMNS = 104
_PAIRS = """
帳账 帐账 週周 佔占 託托 讬托 佈布 嚐尝 讚赞 鑑鉴 鍊链 祕秘 遊游 喫吃 慾欲 僱雇 証证 羣群 峯峰 滙汇
"""
ALSO = {one[0]: one[1] for one in _PAIRS.split()}
"""Variants in frequent words such as 帳號 and 本週, which the property has not, or has otherwise."""
HEAD = '''"""Traditional Chinese characters with their simplified ones: a table that a script has made.

`scripts/simplified_table.py` makes it of the pairs that the Unihan database of Unicode, Inc. has as
kSimplifiedVariant (commit 0f09313 of its repository, of July 2026). Its licence allows that as long as the
notice in `unicode-license.txt` goes with the table.
"""

from typing import Final

_GROUPS: Final = """
'''
TAIL = '''"""
"""A simplified character, followed by the traditional ones."""

SIMPLIFIED: Final = {ord(char): group[0] for group in _GROUPS.split() for char in group[1:]}
"""For `str.translate`."""
'''


def common(char: str) -> bool:
    """Whether GB 2312 has the character."""
    try:
        char.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def table(text: str) -> dict[str, str]:
    """Each traditional character with its simplified one, which is none itself."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        source, _, targets = line.split("\t")
        char = chr(int(source.split()[0].removeprefix("U+"), 16))
        others = [
            chr(code)
            for code in (int(one.removeprefix("U+"), 16) for one in targets.split())
            if code in BLOCK
        ]
        others = [one for one in others if one != char]
        if ord(char) in BLOCK and others:
            found[char] = next((one for one in others if common(one)), others[0])
    found |= ALSO
    for char in list(found):
        end, seen = found[char], {char}
        while end in found and end not in seen:
            seen.add(end)
            end = found[end]
        found[char] = end
    return {char: end for char, end in found.items() if end != char and end not in found}


def main() -> None:
    """See the module."""
    groups: dict[str, list[str]] = defaultdict(list)
    for char, end in table(Path(sys.argv[1]).read_text(encoding="utf-8")).items():
        groups[end].append(char)
    lines = [""]
    for end, chars in sorted(groups.items()):
        group = end + "".join(sorted(chars))
        if sum(1 + (char > "\u1100") for char in lines[-1] + group) + 1 > COLUMNS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {group}".strip()
    TARGET.write_text(HEAD + "\n".join(lines) + "\n" + TAIL, encoding="utf-8")


if __name__ == "__main__":
    main()
