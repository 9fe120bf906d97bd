"""The current folds compared with what the log and the service's keyframes hold."""

from collections.abc import Collection

from huahuo.actors.actor.errors import where
from huahuo.actors.plugins.past import Past
from huahuo.replay.history.delta import differences, written
from huahuo.replay.history.history import History, pages_of, seq_at
from huahuo.replay.history.timeline import Timeline
from huahuo.timetravel.found import Difference, Report, as_json


def _all_types(_event_type: str) -> bool:
    return True


async def compare_folds(past: Past, history: History, upto: int, report: Report) -> set[str]:
    """Fold every entity. Returns the streams that the current code cannot read, each reported once."""
    known = {difference.position for difference in report.differences}
    unreadable: set[str] = set()
    for stream in [name for kind in past.kinds for name in history.streams(f"{kind}/")]:
        subject = past.own_subject(stream)
        if subject is None:
            continue
        fold = subject.parts[0].fold
        state, knows = fold.initial(stream), getattr(fold, "knows", _all_types)
        async for page in pages_of(history, stream, 0, await seq_at(history, stream, upto)):
            for event in page:
                try:
                    state = fold.evolve(state, event)
                except Exception as error:  # noqa: BLE001  an application's code
                    unreadable.add(stream)
                    if event.position not in known:
                        line = where(error).partition(" < ")[0]
                        what = f"{event.type} (version {event.version}) raised {type(error).__name__}"
                        report.add(Difference("error", event.position, stream, line, [f"{what}: {error}"]))
                    break
                if not knows(event.type):
                    report.unknown[event.type] = report.unknown.get(event.type, 0) + 1
                report.folded += 1
            if stream in unreadable:
                break
    return unreadable


async def compare_keyframes(
    past: Past, history: History, upto: int, report: Report, unreadable: Collection[str]
) -> None:
    """Compare the keyframes that the service stored with the current folds of the events."""
    for stream in [name for kind in past.kinds for name in history.streams(f"{kind}/")]:
        subject = past.own_subject(stream)
        if subject is None or stream in unreadable:
            continue
        part = subject.parts[0]
        at = history.head(stream).seq
        seqs: list[int] = []
        while frame := await history.keyframe(stream, part.fold.name, part.fold.fingerprint, at=at):
            seqs.append(frame.seq)
            at = frame.seq - 1
        timeline = Timeline(history, subject)
        for seq in reversed(seqs):
            frame = await history.keyframe(stream, part.fold.name, part.fold.fingerprint, at=seq)
            position = await timeline.place_of(seq)
            if frame is None or position > upto:
                continue
            async for _ in timeline.walk(position):
                pass
            stored = subject.show([part.fold.load(stream, frame.state)])
            changes = differences(stored, timeline.show())
            if changes:
                texts = [
                    f"{written(c.path)}: kept {as_json(c.before)}, folded {as_json(c.after)}"
                    for c in changes[:10]
                ]
                report.add(Difference("keyframe", position, stream, "", texts))
