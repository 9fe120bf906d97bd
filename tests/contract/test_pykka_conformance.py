"""What pykka promises of any actor, for its own ThreadingActor and for LoopActor alike.

pykka's own test suite checks more; `python -m tests.support.drivers.pykka_suite` runs it.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

import pykka
import pytest
from pykka import ActorDeadError, ActorRegistry, Timeout

from huahuo.actors import LoopActor, LoopFuture, Runtime
from tests.support.patience import WITHIN_S


class Subject:
    """One implementation under test: how to start an actor of given behaviour, and its future."""

    def __init__(self, base: type[pykka.Actor], future: type[pykka.Future[Any]]) -> None:
        self.base = base
        self.future = future

    def start(self, behaviour: type, *args: Any) -> pykka.ActorRef[Any]:
        kind = type(behaviour.__name__, (behaviour, self.base), {})
        return cast("type[pykka.Actor]", kind).start(*args)


@pytest.fixture(params=["threading", "loop"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "threading":
        yield Subject(pykka.ThreadingActor, pykka.ThreadingFuture)
        ActorRegistry.stop_all(timeout=WITHIN_S)
        return
    runtime = Runtime()

    class OnThatRuntime(LoopActor):
        pass

    OnThatRuntime.runtime = runtime
    yield Subject(OnThatRuntime, LoopFuture)
    ActorRegistry.stop_all(timeout=WITHIN_S)
    runtime.close()


class Witness(pykka.Actor):
    """An actor that notes what happens to it and behaves as its messages say."""

    made: ClassVar[list["Witness"]] = []

    def __init__(self) -> None:
        super().__init__()
        self.made.append(self)
        self.notes: list[Any] = []
        self.ended = threading.Event()
        self.go_on = threading.Event()
        self.reached = threading.Event()

    def on_start(self) -> None:
        self.notes.append("on_start")

    def on_stop(self) -> None:
        self.notes.append("on_stop")
        self.ended.set()

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.notes.append(f"on_failure {exception_type.__name__}")
        self.ended.set()

    def on_receive(self, message: Any) -> Any:
        match message:
            case "fail":
                raise LookupError("in the handler")
            case "hold":
                self.reached.set()
                assert self.go_on.wait(WITHIN_S)
            case "stop":
                self.stop()
            case _:
                self.notes.append(message)
        return message

    def double(self, number: int) -> int:
        return 2 * number

    def fail(self) -> None:
        raise LookupError("in the method")


def witness_of(ref: pykka.ActorRef[Any]) -> Witness:
    return next(one for one in Witness.made if one.actor_urn == ref.actor_urn)


def test_messages_are_handled_in_the_order_they_were_told(subject: Subject) -> None:
    ref = subject.start(Witness)
    for number in range(100):
        ref.tell(number)
    assert ref.ask("last", timeout=WITHIN_S) == "last"
    assert witness_of(ref).notes == ["on_start", *range(100), "last"]


def test_an_ask_that_does_not_block_gives_a_future(subject: Subject) -> None:
    ref = subject.start(Witness)
    future = ref.ask("later", block=False)
    assert isinstance(future, subject.future)
    assert future.get(timeout=WITHIN_S) == "later"


def test_an_ask_that_is_not_answered_in_time_raises_timeout(subject: Subject) -> None:
    ref = subject.start(Witness)
    witness = witness_of(ref)
    with pytest.raises(Timeout):
        ref.ask("hold", timeout=0.01)
    witness.go_on.set()


def test_an_exception_in_an_ask_is_raised_at_the_asker_and_the_actor_lives_on(subject: Subject) -> None:
    ref = subject.start(Witness)
    with pytest.raises(LookupError, match="in the handler"):
        ref.ask("fail", timeout=WITHIN_S)
    assert ref.is_alive()


def test_an_exception_in_a_tell_calls_on_failure_and_ends_the_actor(subject: Subject) -> None:
    ref = subject.start(Witness)
    witness = witness_of(ref)
    ref.tell("fail")
    assert ref.actor_stopped.wait(WITHIN_S)
    assert witness.ended.wait(WITHIN_S)
    assert witness.notes == ["on_start", "on_failure LookupError"]
    assert ActorRegistry.get_by_urn(ref.actor_urn) is None


def test_stop_handles_what_was_told_before_and_runs_on_stop_last(subject: Subject) -> None:
    ref = subject.start(Witness)
    witness = witness_of(ref)
    ref.tell("before")
    assert ref.stop(timeout=WITHIN_S) is True
    assert witness.notes == ["on_start", "before", "on_stop"]


def test_stopping_the_dead_is_false(subject: Subject) -> None:
    ref = subject.start(Witness)
    ref.stop(timeout=WITHIN_S)
    assert ref.stop(timeout=WITHIN_S) is False


def test_an_actor_may_stop_itself(subject: Subject) -> None:
    ref = subject.start(Witness)
    ref.tell("stop")
    assert ref.actor_stopped.wait(WITHIN_S)
    assert not ref.is_alive()


@pytest.mark.parametrize("send", [lambda ref: ref.tell(1), lambda ref: ref.ask(1), lambda ref: ref.proxy()])
def test_a_dead_actor_refuses_whatever_is_sent(
    subject: Subject, send: Callable[[pykka.ActorRef[Any]], Any]
) -> None:
    ref = subject.start(Witness)
    ref.stop(timeout=WITHIN_S)
    with pytest.raises(ActorDeadError):
        send(ref)


def test_asks_behind_a_stop_are_answered_with_actor_dead_error(subject: Subject) -> None:
    ref = subject.start(Witness)
    witness = witness_of(ref)
    ref.tell("hold")
    assert witness.reached.wait(WITHIN_S)
    stopped = ref.stop(block=False)
    left = ref.ask("left", block=False)
    second = ref.stop(block=False)
    witness.go_on.set()
    assert stopped.get(timeout=WITHIN_S) is True
    with pytest.raises(ActorDeadError):
        left.get(timeout=WITHIN_S)
    assert second.get(timeout=WITHIN_S) is True  # the actor was still stopping at the time of the call


def test_a_proxy_calls_methods_and_reads_and_writes_fields(subject: Subject) -> None:
    proxy = subject.start(Witness).proxy()
    assert proxy.double(21).get(timeout=WITHIN_S) == 42
    proxy.mood = "good"
    assert proxy.mood.get(timeout=WITHIN_S) == "good"


def test_a_proxied_exception_is_raised_by_get(subject: Subject) -> None:
    failed = subject.start(Witness).proxy().fail()
    with pytest.raises(LookupError, match="in the method"):
        failed.get(timeout=WITHIN_S)


def test_a_deferred_proxied_exception_ends_the_actor(subject: Subject) -> None:
    ref = subject.start(Witness)
    witness = witness_of(ref)
    ref.proxy().fail.defer()
    assert witness.ended.wait(WITHIN_S)
    assert witness.notes[-1] == "on_failure LookupError"


def test_an_unknown_attribute_of_a_proxy_is_an_attribute_error(subject: Subject) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        subject.start(Witness).proxy().nothing  # noqa: B018  reading it is the test


def test_futures_map_filter_reduce_and_join(subject: Subject) -> None:
    numbers, word = subject.future(), subject.future()
    numbers.set([1, 2, 3])
    word.set("x")
    assert numbers.map(len).get(timeout=WITHIN_S) == 3
    assert numbers.filter(lambda number: number > 1).get(timeout=WITHIN_S) == [2, 3]
    assert numbers.reduce(lambda total, number: total + number).get(timeout=WITHIN_S) == 6
    assert numbers.join(word).get(timeout=WITHIN_S) == [[1, 2, 3], "x"]
    assert pykka.get_all([numbers, word], timeout=WITHIN_S) == [[1, 2, 3], "x"]


def test_a_derived_future_passes_the_timeout_on(subject: Subject) -> None:
    never = subject.future()
    for derived in (never.map(len), never.join(never)):
        with pytest.raises(Timeout):
            derived.get(timeout=0)


def test_a_future_is_set_once(subject: Subject) -> None:
    future = subject.future()
    future.set(1)
    with pytest.raises(Exception, match=r"^$"):
        future.set(2)
    assert future.get(timeout=WITHIN_S) == 1


def test_the_registry_finds_actors_by_urn_class_and_class_name(subject: Subject) -> None:
    ref = subject.start(Witness)
    assert ActorRegistry.get_by_urn(ref.actor_urn) is ref
    assert ActorRegistry.get_by_class(ref.actor_class) == [ref]
    assert ActorRegistry.get_by_class_name("Witness") == [ref]
    assert ref in ActorRegistry.get_all()


def test_a_broadcast_reaches_every_actor_of_a_class(subject: Subject) -> None:
    class Other(Witness):
        pass

    refs = [subject.start(Witness), subject.start(Other)]
    ActorRegistry.broadcast("to all", Witness)
    ActorRegistry.broadcast("to some", "Other")
    notes = [ref.proxy().notes.get(timeout=WITHIN_S) for ref in refs]
    assert notes == [["on_start", "to all"], ["on_start", "to all", "to some"]]


def test_stop_all_stops_every_actor_the_last_started_first(subject: Subject) -> None:
    order: list[int] = []

    class Numbered(Witness):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def on_stop(self) -> None:
            order.append(self.number)

    for number in range(5):
        subject.start(Numbered, number)
    assert ActorRegistry.stop_all(timeout=WITHIN_S)[:5] == [True] * 5  # others may be left from earlier tests
    assert order == [4, 3, 2, 1, 0]


def test_a_start_that_fails_ends_the_actor_without_on_failure(subject: Subject) -> None:
    class Stillborn(Witness):
        def on_start(self) -> None:
            raise LookupError

    ref = subject.start(Stillborn)
    assert ref.actor_stopped.wait(WITHIN_S)
    assert ActorRegistry.get_by_urn(ref.actor_urn) is None


def test_actors_of_both_kinds_talk_to_each_other() -> None:
    runtime = Runtime()

    class Relay(pykka.ThreadingActor):
        def __init__(self, other: pykka.ActorRef[Any]) -> None:
            super().__init__()
            self.other = other

        def on_receive(self, message: Any) -> Any:
            return self.other.ask(message, timeout=WITHIN_S)  # may block: this actor has its own thread

    class Loop(Witness, LoopActor):
        pass

    relay = Relay.start(runtime.start(Loop))
    assert relay.ask("through", timeout=WITHIN_S) == "through"
    ActorRegistry.stop_all(timeout=WITHIN_S)
    runtime.close()
