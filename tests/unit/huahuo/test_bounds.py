"""The bounds that several processes share."""

import pytest

from huahuo.app import workers
from huahuo.app.config import Settings


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_tails_of_all_processes_together_have_the_bound_of_the_setting(count: int) -> None:
    settings = Settings(workers=count, tail_bytes_max=64 << 20)
    processes = count + 1 if count > 1 else 1
    assert workers.tail_bytes_max(settings) * processes <= settings.tail_bytes_max
    assert workers.manners(settings, b"").tail_bytes_max == workers.tail_bytes_max(settings)
