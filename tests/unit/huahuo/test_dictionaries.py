"""Dictionaries: the shipped one, those of a directory, and that none holds what is somebody's."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from huahuo.app.application import standard
from huahuo.dictionaries import zstd_dictionaries
from huahuo.dictionaries.zstd_dictionaries import STREAMS_MIN, Masker
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.zstd_frames import Compressor, Dictionary
from huahuo.mailcheck.plugin.samples import EventMix
from huahuo.transport.protocol.frames import events_message
from scripts.train_dictionary import made_up

TRIES, TRIED = 400, "782484b9fdf86302"
"""A twentieth of the tries of the shipped one, and the digest of what they make of the same samples."""


def single_and_runs(dictionary: Dictionary | None) -> tuple[float, float]:
    """Bytes a progress event: alone in its message, and in runs of 16."""
    packer = Compressor(dictionary, 3)
    progress = [
        body
        for seed in range(900, 920)
        for body in EventMix(seed).check() + EventMix(seed + 50).check()
        if b'"check_progress"' in body
    ]
    single = [packer.compress(events_message("user/42", 1000 + n, [body])) for n, body in enumerate(progress)]
    runs = [
        packer.compress(events_message("user/42", 1000 + n, progress[n : n + 16]))
        for n in range(0, len(progress) - 15, 16)
    ]
    return sum(map(len, single)) / len(single), sum(map(len, runs)) / len(runs) / 16


def test_it_makes_progress_events_small() -> None:
    single, in_runs = single_and_runs(zstd_dictionaries.find_dictionaries(Path("nowhere")).used)
    assert single <= 50
    assert in_runs <= 20
    assert single < single_and_runs(None)[0] / 2


def place(folder: Path, dictionary: Dictionary, name: str = "") -> Path:
    path = folder / "dictionaries" / f"{name or dictionary.id}.zdict"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(dictionary.data)
    return path


def test_a_file_by_name_is_used_and_the_others_stay_served(tmp_path: Path) -> None:
    kept, named = (
        made_up(1, 1024, tries=20),
        made_up(2, 1024, tries=20),
    )
    place(tmp_path, kept)
    dictionaries = zstd_dictionaries.find_dictionaries(tmp_path, str(place(tmp_path, named)))
    assert dictionaries.used == named
    assert {kept.id, named.id, *zstd_dictionaries.SHIPPED} == set(dictionaries.known)


def test_two_of_one_id_are_refused(tmp_path: Path) -> None:
    made = made_up(1, 1024, tries=20)
    place(tmp_path, made)
    place(tmp_path, Dictionary(made.id, made.data[:-1] + bytes([made.data[-1] ^ 1])), "other")
    with pytest.raises(ConfigError, match=f"has the id {made.id} already"):
        zstd_dictionaries.find_dictionaries(tmp_path)


@pytest.mark.parametrize(
    ("data", "why"),
    [(None, "cannot read"), (b"no dictionary", "no zstd dictionary"), (bytes(2 << 20), "at most")],
)
def test_a_file_that_cannot_serve_is_refused(tmp_path: Path, data: bytes | None, why: str) -> None:
    path = tmp_path / "x.zdict"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=why):
        zstd_dictionaries.find_dictionaries(tmp_path, str(path))


# What is somebody's stays out


def test_numbers_and_moments_keep_their_shape_only() -> None:
    made = Masker(FakeAmbient(1).random)
    for number in range(STREAMS_MIN):
        for text in ("n", "t"):
            made.saw(f"user/{number}", msgspec.json.encode({"type": text}))
    masked = made.masked(b'{"n":[123456789,-7,0,1.5,null,true],"t":"2026-11-24T10:31:07.114Z"}')
    numbers, moment = msgspec.json.decode(masked, type=dict[str, list[object] | str]).values()
    assert isinstance(numbers, list)
    assert len(str(numbers[0])) == 9
    assert numbers[0] != 123456789
    assert numbers[4:] == [None, True]
    assert isinstance(moment, str)
    assert moment.startswith("2026-")
    assert moment != "2026-11-24T10:31:07.114Z"


async def write(folder: Path, events: Callable[[int], list[bytes]]) -> None:
    """A log of 8 users with `events(user)` each."""
    log = await SqliteLog.open(folder, ambient=FakeAmbient(1), master_key=bytes(32), build="t")
    for user in range(8):
        news = tuple(NewEvent(f"user/{user}", "fact", body) for body in events(user))
        await log.append(Append(ts_ms=1, events=news))
    await log.close()


async def test_a_dictionary_of_a_log_holds_its_shapes_and_nobodys_words(tmp_path: Path) -> None:
    def events(user: int) -> list[bytes]:
        return [
            msgspec.json.encode(
                {
                    "type": "parcel_moved",
                    "station": "Alexanderplatz",
                    "note": f"canary-of-{user:03}-canary-of-{'abcdefgh'[user] * 12}",
                    "number": 987_000_000 + user,
                    f"canary-{'abcdefgh'[user] * 9}@example.org": user,
                }
            )
            for _ in range(60)
        ]

    await write(tmp_path, events)
    made = await zstd_dictionaries.from_log(standard(), tmp_path, seed=3, tries=100)
    assert b"parcel_moved" in made.data
    assert b"Alexanderplatz" in made.data
    assert b"canary" not in made.data
    assert b"98700000" not in made.data


async def test_a_log_with_too_little_in_it_is_said(tmp_path: Path) -> None:
    await write(tmp_path, lambda _user: [b'{"type":"x"}'])
    with pytest.raises(HuahuoError, match="too few events"):
        await zstd_dictionaries.from_log(standard(), tmp_path, seed=3, tries=100)


async def test_no_log_is_said(tmp_path: Path) -> None:
    with pytest.raises(HuahuoError, match="no log"):
        await zstd_dictionaries.from_log(standard(), tmp_path, seed=3, tries=100)
