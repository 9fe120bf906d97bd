"""Verification codes are found in mails of 22 languages, and in no others: measured on our own corpus.

`code_mails/tuned` is what the words and weights were tuned on, `code_mails/held_out` is not. A held-out mail
that somebody looks at because it failed moves to the other half, and a new one takes its place.
`code_mails/names_avoided` is held out too: none of its mails says what a code is usually called. In the mails
of `code_mails/apart_mended` and `code_mails/apart` no name is next to the code. The weights fit the first;
the second was written when the faults of the first had been mended; bench/RESULTS.md has its figures at first
sight. `code_mails/shown_tuned` and `code_mails/shown_held_out` have 14 more languages, HTML that hides text,
quoted mails and warnings of fraud; the rules were made with the first alone. A mail begins with `=== CODE`,
or `=== -` if it has none; its first line is the subject. A line `+++` parts the plain text from the HTML.
"""

from pathlib import Path

import pytest

from huahuo.mailcheck.codes.finding import code_of
from huahuo.mailcheck.codes.weights import WEIGHTS
from scripts.code_weights import TUNED, gradient, is_same, mails, rows

_MAILS = Path(__file__).parent / "code_mails"
_PRECISION_MIN, _RECALL_MIN = 0.98, 0.95
_PROMISED = frozenset({"zh", "en", "ja", "ko", "de", "fr", "es", "ru"})
_SHOWN_PRECISION_MIN = 0.97
_SLOPE_MAX = 0.2
"""The weights are kept to three places, which counts once for each mail."""


def _measured(half: str, languages: frozenset[str] | None = None) -> tuple[float, float]:
    """Precision and recall, of all languages or of these."""
    right = told = sent = 0
    for language, code, subject, text, html in mails(_MAILS / half):
        if languages is not None and language not in languages:
            continue
        found = code_of(subject, text, html)
        sent += bool(code)
        told += found is not None
        right += found is not None and bool(code) and is_same(found.text, code)
    print(f"{half}: {sent} codes sent, precision {right / told:.3f}, recall {right / sent:.3f}")
    return right / told, right / sent


@pytest.mark.parametrize("half", ["tuned", "held_out", "apart_mended", "apart"])
def test_of_the_codes_found_98_of_100_are_right_and_of_the_codes_sent_95_of_100_are_found(half: str) -> None:
    precision, recall = _measured(half)

    assert precision >= _PRECISION_MIN
    assert recall >= _RECALL_MIN


@pytest.mark.parametrize("half", ["shown_tuned", "shown_held_out"])
@pytest.mark.parametrize(("languages", "recall_min"), [(_PROMISED, 0.95), (None, 0.90)])
def test_in_22_languages_97_of_100_codes_told_are_right(
    half: str, languages: frozenset[str] | None, recall_min: float
) -> None:
    precision, recall = _measured(half, languages)

    assert precision >= _SHOWN_PRECISION_MIN
    assert recall >= recall_min


def test_the_weights_are_those_that_fit_the_tuned_parts() -> None:
    """If not: `python scripts/code_weights.py`."""
    slope = gradient(rows(TUNED), WEIGHTS)

    assert max(map(abs, slope.values())) < _SLOPE_MAX


def test_half_of_the_corpus_has_no_code_and_every_language_is_in_each_part() -> None:
    for half in ("tuned", "held_out", "apart_mended", "apart"):
        every = list(mails(_MAILS / half))

        assert sum(code == "" for _, code, *_ in every) * 2 >= len(every)
        assert {language for language, *_ in every} == _PROMISED
