"""What all tests over real sockets in this process have."""

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from huahuo.users import book


@pytest.fixture(autouse=True, scope="session")
def cheap_hashes() -> Iterator[None]:
    """Passwords cost as little as argon2id can, instead of a fifth of a second of processor time each."""
    with pytest.MonkeyPatch.context() as patch:
        quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr(book, "hasher", lambda: quick)
        patch.setattr(book, "UNKNOWN", quick.hash("nobody's"))
        yield
