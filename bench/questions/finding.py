"""How fast are mails found among many, and how large is the index?

The guess before the first run: a million mails at 20 ms (p95) with the index at a third of the mails' size,
because a search reads a page or two of each word, newest first, and stops.

Half of the mails are in Chinese, half in English, with words by Zipf's law from a lexicon of 20,000 each, two
characters a Chinese word. A mail has 150 words on average (log-normal). Its size is that of a server's copy:
3 KiB of headers, the text, and again as HTML of three times its length. The text alone is counted, too.
Searches take one to three words by that law. A third is limited to one to 200 mailboxes, a fifth to 3 days.
All mails belong to one user, which is the slowest case.
"""

import itertools
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from bench.harness.harness import Metric, Options, Sheet
from huahuo.eventstore.fulltext.asking import marks_of, parse
from huahuo.eventstore.fulltext.index import TextIndex
from huahuo.eventstore.fulltext.model import Ask, Entry

FIELDS = ("subject", "sender", "recipients")
LEXICON = 20_000
CHARACTERS = 2_500
MAILBOXES = 5_000
BATCH = 200
SEARCHES = 400
HEADERS_BYTES = 3 << 10
HTML_TIMES = 3
_START_MS = 1_700_000_000_000
METRICS = (
    Metric("put", "mails/s"),
    Metric("of_text", "× the texts", higher_is_better=False),
    Metric("of_mails", "× the mails", higher_is_better=False),
    Metric("p50", "ms", higher_is_better=False),
    Metric("p95", "ms", higher_is_better=False),
    Metric("worst", "ms", higher_is_better=False),
    Metric("cpu_p95", "ms of the processor", higher_is_better=False),
)


class Language:
    """A lexicon, and texts of its words as often as Zipf's law has them."""

    def __init__(self, words: Sequence[str], between: str) -> None:
        self._words = words
        self._between = between
        self._weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(words))))

    def words(self, chance: random.Random, count: int) -> list[str]:
        """Some words."""
        return chance.choices(self._words, cum_weights=self._weights, k=count)

    def text(self, chance: random.Random, count: int) -> str:
        """A text with this number of words."""
        return self._between.join(self.words(chance, count))


def languages(chance: random.Random) -> tuple[Language, Language]:
    """English and Chinese, as far as an index can tell."""
    letters = "eeeetttaaooiinnsshhrrddlluucmfwygpbvkxqjz"
    english = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(LEXICON)]
    characters = [chr(0x4E00 + n) for n in range(CHARACTERS)]
    chinese = ["".join(chance.choices(characters, k=2)) for _ in range(LEXICON)]
    return Language(english, " "), Language(chinese, "")


def mails(count: int, chance: random.Random, spoken: Sequence[Language]) -> list[Entry]:
    """The next mails, half a minute apart."""
    found = []
    for n in range(count):
        language = spoken[n % len(spoken)]
        keys = ["u1", f"m{n % MAILBOXES}", *(["c"] if n % 5 == 0 else [])]
        texts = {
            "subject": language.text(chance, 6),
            "sender": f"{spoken[0].text(chance, 2)} <{spoken[0].text(chance, 1)}@example.com>",
            "recipients": f"m{n % MAILBOXES}@example.com",
            "text": language.text(chance, max(10, int(chance.lognormvariate(4.7, 0.8)))),
        }
        found.append(Entry(n + 1, n % MAILBOXES, _START_MS + n * 30_000, tuple(keys), texts))
    return found


def measure(path: Path, count: int, sheet: Sheet) -> None:
    """Measure one index with this number of mails."""
    chance = random.Random(1)
    spoken = languages(chance)
    entries = mails(min(count, 20_000), chance, spoken)
    index = TextIndex(path, FIELDS)
    text_bytes = spent_s = 0.0
    for first in range(0, count, BATCH):
        some = [
            Entry(n + 1, one.part, _START_MS + n * 30_000, one.keys, _varied(one, n, chance, spoken))
            for n in range(first, min(count, first + BATCH))
            for one in (entries[n % len(entries)],)
        ]
        text_bytes += sum(len(text.encode()) for one in some for text in one.texts.values())
        start_s = time.perf_counter()
        index.put(some)
        spent_s += time.perf_counter() - start_s
    size = index.size_bytes
    searches = [_search(index, chance, spoken, count) for _ in range(SEARCHES)]
    taken_ms, cpu_ms = sorted(one for one, _ in searches), sorted(one for _, one in searches)
    index.close()
    mail_bytes = count * HEADERS_BYTES + text_bytes * (1 + HTML_TIMES)
    sheet.add(
        f"{count:,} mails",
        put=count / spent_s,
        of_text=size / text_bytes,
        of_mails=size / mail_bytes,
        p50=taken_ms[SEARCHES // 2],
        p95=taken_ms[SEARCHES * 95 // 100],
        worst=taken_ms[-1],
        cpu_p95=cpu_ms[SEARCHES * 95 // 100],
    )


def _varied(one: Entry, n: int, chance: random.Random, spoken: Sequence[Language]) -> dict[str, str]:
    """Texts are made once and given out again with some other words: making them takes longest."""
    texts = dict(one.texts)
    texts["text"] += " " + spoken[n % len(spoken)].text(chance, 10)
    return texts


def _search(
    index: TextIndex, chance: random.Random, spoken: Sequence[Language], count: int
) -> tuple[float, float]:
    """Search once: how long it took, and how long the processor worked, in ms."""
    language = chance.choice(spoken)
    words = parse(" ".join(language.words(chance, chance.choice((1, 2, 3)))), marks_of(FIELDS))
    assert words is not None
    kind, end_ms = chance.random(), _START_MS + count * 30_000
    some = tuple({f"m{chance.randrange(MAILBOXES)}" for _ in range(chance.choice((1, 20, 200)))})
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    index.find(
        Ask(
            words=words,
            keys=("u1",),
            one_of=some if kind < 1 / 3 else (),
            since_ms=end_ms - 86_400_000 * 3 if kind > 4 / 5 else None,
            limit=51,
        )
    )
    return (time.perf_counter() - start_s) * 1000, (time.process_time() - start_cpu_s) * 1000


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sheet = Sheet("a page of 50, newest first", METRICS, "")
    counts = [2_000] if options.quick else [100_000, *([1_000_000] if options.large else [])]
    for count in counts:
        for round_ in range(options.rounds):
            folder = options.folder / f"finding-{count}-{round_}"
            folder.mkdir(parents=True)
            measure(folder / "index.db", count, sheet)
            shutil.rmtree(folder)
    return [sheet]
