"""What plug-ins bring is registered once, under names of their own."""

from collections.abc import Callable

import msgspec
import pytest

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Reply, json_reply
from huahuo.actors.plugins.past import Past, together
from huahuo.actors.plugins.plugin import Brought, Host, Plugin
from huahuo.actors.plugins.registration import bring_all
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.replay.history.subject import RecentSubject
from huahuo.transport.load.metrics import Metrics
from tests.support.worlds.entities import Town, in_town


class Volume(msgspec.Struct, frozen=True):
    loud: int = 3


class Ringer(Plugin):
    settings = Volume
    event_types = frozenset({"rang"})

    def __init__(self, name: str = "ringer", action: str = "ring") -> None:
        self._name = name
        self._action = action
        self.given: object = None

    @property
    def name(self) -> str:
        return self._name

    def bring(self, host: Host) -> Brought:
        self.given = host.settings

        async def ring(_call: Call[dict[str, object]]) -> Reply:
            return json_reply({"type": "success"})

        async def state(_stream: str) -> tuple[int, bytes]:
            return 0, b'{"%s":1}' % self._name.encode()

        return Brought(
            actions=[Action(self._action, dict, ring)], user_snapshot=state, guarded=frozenset({self._name})
        )


def in_host(test: Callable[[Host, Registry], None]) -> None:
    async def main(town: Town) -> None:
        host = Host(
            log=town.log,
            directory=town.directory,
            feed=town.feed,
            ambient=FakeAmbient(),
            executor=InlineExecutor(),
            fairness=town.fairness,
            wait_s=town.fairness.wait_s,
            metrics=Metrics(),
        )
        test(host, Registry())

    in_town(main)


@pytest.mark.parametrize("other", [Ringer(), Ringer("gong", "ring")])
def test_a_name_that_is_taken_is_refused(other: Plugin) -> None:
    def test(host: Host, registry: Registry) -> None:
        with pytest.raises(ValueError, match="ring"):
            bring_all([Ringer(), other], host, {}, registry)

    in_host(test)


def test_of_several_pasts_the_first_that_knows_a_stream_answers() -> None:
    def of(kind: str) -> Past:
        def own(stream: str) -> RecentSubject | None:
            return RecentSubject(stream) if stream.startswith(f"{kind}/") else None

        return Past(
            own_subject=own,
            kinds=(kind,),
            entity_fields={f"{kind}_id": kind},
            prunable=frozenset({kind}),
            last=frozenset({f"{kind}_melted"}),
        )

    past = together([of("bell"), of("gong")])
    assert past.own_subject("gong/1") is not None
    assert past.own_subject("horn/1") is None
    assert past.kinds == ("bell", "gong")
    assert past.entity_of({"gong_id": 7}) == "gong/7"
    assert past.entity_of({"horn_id": 7}) is None
    assert past.prunable == {"bell", "gong"}
    assert past.last == {"bell_melted", "gong_melted"}


async def test_nothing_is_known_of_a_log_without_plug_ins() -> None:
    past = together([])
    assert await past.subject_of(None, "bell/1") is None  # type: ignore[arg-type]
    assert (past.kinds, past.guides, past.actions(None)) == ((), (), ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            "shop.py:9: class Ring(Command)",
            "",
            r"^shop.py:9: class Ring\(Command\): the action 'ring' belongs to a plug-in",
        ),
        (
            "",
            "shop.py:9: class Ring(Command)",
            r"^shop.py:9: class Ring\(Command\): the action 'ring' belongs to a plug-in",
        ),
        (
            "a.py:1: x",
            "b.py:2: y",
            r"^b.py:2: y: the action 'ring' belongs to a.py:1: x already: choose another$",
        ),
    ],
)
def test_an_action_that_two_have_says_where_they_are(first: str, second: str, said: str) -> None:
    async def ring(_call: Call[dict[str, object]]) -> Reply:
        return json_reply({"type": "success"})

    registry = Registry()
    registry.command(Action("ring", dict, ring, place=first))
    with pytest.raises(ValueError, match=said):
        registry.command(Action("ring", dict, ring, place=second))
