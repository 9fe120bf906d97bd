"""Which clients are on which node: what nodes tell each other, and which client gives way."""

import msgspec

from huahuo.actors.plugins.calls import UserId
from huahuo.cluster.shared_facts import USERS_A_MESSAGE, Presence, Told


class Two:
    """Two nodes, and a wire between them that may be cut."""

    def __init__(self) -> None:
        self.now_ms = {"a": 1_000_000, "b": 1_000_000}
        self.nodes = {name: self.made(name) for name in ("a", "b")}
        self.left: list[tuple[str, UserId, str]] = []

    def made(self, name: str, life: int = 1) -> Presence:
        return Presence(name, f"{name}.{life}", lambda: self.now_ms[name])

    def restart(self, name: str) -> None:
        self.nodes[name] = self.made(name, 2)

    def join(self, name: str, client: str, user: UserId = 42) -> None:
        self.nodes[name].joined(user, client)

    def tell(self, name: str, *, lost: bool = False, answer_lost: bool = False) -> None:
        """One request of a node, if it owes one."""
        to = "b" if name == "a" else "a"
        me, other = self.nodes[name], self.nodes[to]
        if not me.owes(to):
            return
        told = me.next(to)
        if lost:
            me.failed(to, told)
            return
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Told)
        heard, leaving = other.hear(name, sent)
        for user, client in leaving:
            self.left.append((to, user, client))
            other.parted(user, client)
        if answer_lost:
            me.failed(to, told)
        else:
            me.answered(to, heard)

    def settle(self) -> None:
        for _ in range(4):
            self.tell("a")
            self.tell("b")
        assert not self.nodes["a"].owes("b")
        assert not self.nodes["b"].owes("a")


def test_two_nodes_that_have_not_heard_of_each_other_agree_which_client_stays() -> None:
    two = Two()
    two.join("a", "dev")
    two.join("b", "dev")
    two.settle()
    assert len(two.left) == 1


def test_a_silent_node_counts_no_more_and_tells_everything_when_it_is_back() -> None:
    two = Two()
    two.join("a", "dev")
    two.settle()
    two.nodes["b"].forget("a")
    assert two.nodes["b"].count(42, "") == 0
    two.join("a", "more")
    two.settle()
    assert two.nodes["b"].count(42, "") == 2


def test_very_many_users_are_told_in_several_messages() -> None:
    two = Two()
    for user in range(USERS_A_MESSAGE + 1):
        two.join("a", "dev", user=user)
    two.tell("a")
    assert two.nodes["a"].owes("b")
    two.settle()
    assert two.nodes["b"].known == {"a": USERS_A_MESSAGE + 1}


def test_news_that_newer_news_overtook_does_not_count() -> None:
    two = Two()
    two.settle()
    a, b = two.nodes["a"], two.nodes["b"]
    two.join("a", "dev")
    older = a.next("b")
    a.failed("b", older)
    a.parted(42, "dev")
    b.hear("a", a.next("b"))
    b.hear("a", older)
    assert b.count(42, "") == 0
