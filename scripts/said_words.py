"""Writes web/console/src/words/catalogue.ts: what the service says in Chinese, and the same in English.

python scripts/said_words.py        after a change of a catalogue (`zh.py`, `en.py`)

Replies come in the reader's language by themselves. Events have one text for all readers, so the console says
those in English by this list.
"""

import json
from pathlib import Path

from huahuo import en as huahuo_en
from huahuo import zh as huahuo_zh
from huahuo.actors.plugins.words import texts_of
from huahuo.mailcheck import en as mail_en
from huahuo.mailcheck import zh as mail_zh
from huahuo.transport.words import en, zh

PAGE = Path(__file__).resolve().parents[1] / "web/console/src/words/catalogue.ts"
CATALOGUES = ((mail_zh, mail_en), (zh, en), (huahuo_zh, huahuo_en))
_HEAD = """/** What the service says, in both languages. Written by scripts/said_words.py: do not edit. */

export const CATALOGUE: readonly (readonly [chinese: string, english: string])[] = [
"""


def written() -> str:
    """The file. Texts without a gap come first, since one with a gap may fit them too."""
    pairs = {
        text: texts_of(english)[name]
        for chinese, english in CATALOGUES
        for name, text in texts_of(chinese).items()
    }
    lines = sorted(pairs.items(), key=lambda pair: "{}" in pair[0])
    return _HEAD + "".join(f"  {json.dumps(line, ensure_ascii=False)},\n" for line in lines) + "];\n"


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
