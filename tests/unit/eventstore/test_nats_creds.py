"""A credentials file of NATS: what it signs, and that a damaged one is refused without its content."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from huahuo.eventstore.sequencer.address import BadCreds, UserKey
from tests.support.servers.nats_operator import ACCOUNT, Identity, with_operator


def _seed_in(file: str) -> str:
    return file.splitlines()[-2]


def test_the_key_of_a_file_signs_for_the_user_of_its_jwt(tmp_path: Path) -> None:
    _, file = with_operator(tmp_path)
    key = UserKey(file.encode())
    claims = key.jwt.decode().split(".")[1]
    user = base64.urlsafe_b64decode(claims + "==").partition(b'"sub": "')[2].partition(b'"')[0]
    public = Ed25519PublicKey.from_public_bytes(base64.b32decode(user)[1:-2])
    public.verify(base64.b64decode(key.sign("a nonce")), b"a nonce")
    assert _seed_in(file) not in repr(key)


def test_a_file_with_the_line_ends_of_windows_is_read(tmp_path: Path) -> None:
    _, file = with_operator(tmp_path)
    assert UserKey(file.replace("\n", "\r\n").encode()).sign("n") == UserKey(file.encode()).sign("n")


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
