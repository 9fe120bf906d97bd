"""A failing history, kept as a test: the events that lead to a difference, and a file for pytest.

The events are those of one entity up to the difference, renumbered. They contain data of real people, such as
addresses and subjects. Review them before you commit them to a repository.
"""

from pathlib import Path

from huahuo.actors.plugins.past import Past
from huahuo.errors import ConfigError
from huahuo.replay.history import exported
from huahuo.replay.history.fork import renumbered
from huahuo.replay.history.history import History, merged

_TEST = '''"""Kept by `huahuo replay check`: {said}."""

from pathlib import Path

from huahuo.timetravel.check import disagreements


def test_this_history_is_what_the_code_would_write_and_fold() -> None:
    assert disagreements(Path(__file__).with_suffix(".jsonl")) == []
'''


async def keep(past: Past, history: History, entity: str, position: int, said: str, target: Path) -> Path:
    """Write `target` (a `.py` name) and the entity's events up to a position. Returns the path of the events.

    `said` is the text in the test that says what was found there.

    Raises:
        ConfigError: the files cannot be written.
    """
    subject = await past.subject_of(history, entity)
    streams = [entity] if subject is None else [part.stream for part in subject.parts]
    events = [
        event
        async for piece in merged(history, streams, 0, position)
        for event in piece
        if subject is None or subject.concerns(event)
    ]
    kept = renumbered(events)
    data = target.with_suffix(".jsonl")
    lines = [exported.header("kept", len(kept)), *(exported.line(e, past.sealed_in(e)) for e in kept)]
    try:
        data.write_bytes(b"\n".join(lines) + b"\n")
        target.with_suffix(".py").write_text(_TEST.format(said=said), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from None
    return data
