"""What users see is what the files of `surface` say: nothing leaves or comes unseen."""

import pytest

from tests.support.surface import SURFACES, lines, stored


@pytest.mark.parametrize("surface", SURFACES)
def test_what_users_see_changes_only_together_with_its_file(surface: str) -> None:
    before, now = stored(surface), lines(surface)
    left, came = sorted({*before} - {*now}), sorted({*now} - {*before})
    shown = "\n".join([*(f"left: {line}" for line in left), *(f"came: {line}" for line in came)])
    assert now == before, f"{shown}\nif users shall see that: python -m tests.support.surface"
