"""A credentials file of NATS: what it signs, and that a damaged one is refused without its content."""

from pathlib import Path

import pytest

from huahuo.eventstore.sequencer.address import BadCreds, UserKey
from tests.support.servers.nats_operator import ACCOUNT, Identity, with_operator


def _seed_in(file: str) -> str:
    return file.splitlines()[-2]


def test_a_file_without_a_block_or_with_a_damaged_or_foreign_seed_is_refused_without_its_content(
    tmp_path: Path,
) -> None:
    _, file = with_operator(tmp_path)
    seed = _seed_in(file)
    damaged = seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:]
    for bad, reason in (
        ("", "needs a block"),
        (file.replace("BEGIN USER NKEY SEED", "BEGIN"), "needs a block"),
        (file.replace(seed, damaged), "damaged"),
        (file.replace(seed, "SU1"), "damaged"),
        (file.replace(seed, Identity(ACCOUNT).seed), "not that of a user"),
    ):
        with pytest.raises(BadCreds, match=reason) as refused:
            UserKey(bad.encode())
        assert seed[5:] not in str(refused.value)
