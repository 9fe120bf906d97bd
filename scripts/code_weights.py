"""Fits the weights of `mailcheck/codes/weights.py` to the parts of the corpus that were looked at.

Run `python scripts/code_weights.py` after a change of those or of the evidence; a test fails when the
weights do not fit it. A logistic regression with a ridge, by Newton's method: no chance is in it.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from huahuo.mailcheck.codes import finding, weights
from huahuo.mailcheck.codes.finding import emphasised, evidences
from huahuo.mailcheck.mime.shown import shown_text

_ROOT = Path(__file__).parent.parent
_CORPUS = _ROOT / "tests/unit/mailcheck/code_mails"
TUNED = (_CORPUS / "tuned", _CORPUS / "apart_mended")
_RIDGE = 1.0
_STEPS = 12

type Row = tuple[dict[str, float], float]


def mails(half: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """(language, code, subject, text, html) of each mail of a half."""
    for path in sorted(half.iterdir()):
        for mail in path.read_text(encoding="utf-8").removeprefix("=== ").split("\n=== "):
            code, subject, body = mail.split("\n", 2)
            text, _, html = body.partition("\n+++\n")
            text, html = ("", body) if body.startswith("<") else (text, html)
            yield path.stem, code.strip("-"), subject, text, html


def is_same(found: str, wanted: str) -> bool:
    """A code of digits is told without the blanks and dashes that a mail shows."""
    plain = wanted.replace(" ", "").replace("-", "")
    return found == (plain if plain.isdecimal() else wanted)


def rows(halves: Iterable[Path]) -> list[Row]:
    """The evidence of each number of these halves, and whether it is the code."""
    found: list[Row] = []
    for _language, code, subject, text, html in chain.from_iterable(map(mails, halves)):
        mail = finding.mail_of(subject, text or shown_text(html))
        if mail is not None:
            for number, evidence in evidences(mail, finding.ruled(mail), emphasised(html)):
                found.append((evidence, float(bool(code) and is_same(number.text, code))))
    return found


def gradient(of: list[Row], by: dict[str, float]) -> dict[str, float]:
    """How the loss grows with each weight: all zeros at the fit."""
    slope = {name: 0.0 if name == "always" else _RIDGE * weight for name, weight in by.items()}
    for evidence, is_code in of:
        error = _likely(evidence, by) - is_code
        for name, value in evidence.items():
            slope[name] += error * value
    return slope


def fitted(of: list[Row]) -> dict[str, float]:
    """The weights with the least loss."""
    names = sorted({name for evidence, _ in of for name in evidence})
    by = dict.fromkeys(names, 0.0)
    for _ in range(_STEPS):
        curve = {name: {other: (_RIDGE if name == other else 0.0) for other in names} for name in names}
        for evidence, _is_code in of:
            likely = _likely(evidence, by)
            for name, value in evidence.items():
                for other, second in evidence.items():
                    curve[name][other] += likely * (1 - likely) * value * second
        step = _solved(names, curve, gradient(of, by))
        by = {name: by[name] - step[name] for name in names}
    return by


def _likely(evidence: dict[str, float], by: dict[str, float]) -> float:
    return 1 / (1 + math.exp(-math.fsum(by[name] * value for name, value in evidence.items())))


def _solved(names: list[str], of: dict[str, dict[str, float]], right: dict[str, float]) -> dict[str, float]:
    """The solution of a system with a positive definite matrix, by elimination."""
    table = [[*(of[name][other] for other in names), right[name]] for name in names]
    for at, pivot in enumerate(table):
        for row in table[at + 1 :]:
            factor = row[at] / pivot[at]
            for column in range(at, len(row)):
                row[column] -= factor * pivot[column]
    found = [0.0] * len(names)
    for at in reversed(range(len(names))):
        known = sum(table[at][column] * found[column] for column in range(at + 1, len(names)))
        found[at] = (table[at][-1] - known) / table[at][at]
    return dict(zip(names, found, strict=True))


def page(of: dict[str, float]) -> str:
    """The module with them."""
    lines = "".join(f'    "{name}": {weight:.3f},\n' for name, weight in sorted(of.items()))
    docstring = (
        '"""How much each piece of evidence counts. Written by `scripts/code_weights.py`. Data only."""'
    )
    return f"{docstring}\n\nfrom typing import Final\n\nWEIGHTS: Final = {{\n{lines}}}\n"


if __name__ == "__main__":
    Path(weights.__file__).resolve().write_text(page(fitted(rows(TUNED))), encoding="utf-8")
