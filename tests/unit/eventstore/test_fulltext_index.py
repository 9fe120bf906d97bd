"""The index of texts: what it finds, in which order, and what is left of what was dropped."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.fulltext.index import ONE_OF_MAX, TextIndex, Unusable
from huahuo.eventstore.fulltext.words import Ask, Entry, Place, marks_of, parse

MARKS = marks_of(("subject",))
NOW_MS = 1_790_000_000_000


def entry(
    item: int, text: str, *, at_ms: int = NOW_MS, owner: str = "u1", part: int = 1, subject: str = ""
) -> Entry:
    return Entry(item, part, at_ms, (owner, f"m{part}"), {"subject": subject, "text": text})


def items(index: TextIndex, query: str, owner: str = "u1", **more: object) -> list[int]:
    words = parse(query, MARKS)
    assert words is not None
    return [one.item for one in index.find(Ask(words=words, keys=(owner,), **more))]  # type: ignore[arg-type]


@pytest.fixture
def index() -> Iterator[TextIndex]:
    with closing(TextIndex(None, ("subject",))) as opened:
        yield opened


def test_newest_first_or_oldest_first_page_by_page_without_gap(index: TextIndex) -> None:
    index.put([entry(n, "word", at_ms=NOW_MS + 60_000 * (n * 7 % 100)) for n in range(100)])
    ascending = sorted(range(100), key=lambda n: n * 7 % 100)
    for oldest_first, wanted in ((True, ascending), (False, ascending[::-1])):
        seen: list[int] = []
        after = None
        while True:
            page = index.find(
                Ask(words=parse("word", {}), keys=("u1",), after=after, oldest_first=oldest_first, limit=7)  # type: ignore[arg-type]
            )
            seen += [one.item for one in page]
            if len(page) < 7:
                break
            after = page[-1].number
        assert seen == wanted


def test_one_of_many_parts(index: TextIndex) -> None:
    index.put([entry(n, "word", part=n) for n in range(5)])
    assert sorted(items(index, "word", one_of=("m1", "m3"))) == [1, 3]
    with pytest.raises(ValueError, match="too many"):
        items(index, "word", one_of=tuple(f"m{n}" for n in range(ONE_OF_MAX + 1)))


def test_a_second_put_of_the_same_item_changes_nothing(index: TextIndex) -> None:
    index.put([entry(1, "first")])
    index.put([entry(1, "second")])
    assert (items(index, "first"), items(index, "second"), index.count) == ([1], [], 1)


def test_an_unusable_or_older_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    path.write_bytes(b"no database at all" * 500)
    TextIndex(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=999")
    db.close()
    with closing(TextIndex(path)) as index:
        assert index.place == Place("", 0)


def test_damage_that_shows_later_is_told(tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    index = TextIndex(path)
    index.put([entry(n, f"word{n} " * 50) for n in range(2_000)])
    index.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    with closing(TextIndex(path)) as damaged:
        with pytest.raises(Unusable):
            items(damaged, "word1*", limit=2_000)
        damaged.begin_anew()
        damaged.put([entry(1, "word")])
        assert items(damaged, "word") == [1]
