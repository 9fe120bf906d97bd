"""Dividing work among nodes: each key has one node, and little moves when a node comes or goes."""

import pytest

from huahuo.actors.entities.rendezvous_hash import NOTHING, WHOLE, Share

KEYS = [f"order/{number}" for number in range(3000)]
NODES = ("a", "b", "c")


def owners(nodes: tuple[str, ...]) -> list[str]:
    shares = [Share(node, nodes) for node in nodes]
    found = [[share.node for share in shares if share.has(key)] for key in KEYS]
    assert all(len(nodes_of_key) == 1 for nodes_of_key in found)
    return [node for [node] in found]


@pytest.mark.parametrize("nodes", [("a",), ("a", "b"), NODES, ("c", "b", "a")])
def test_each_key_is_of_exactly_one_node(nodes: tuple[str, ...]) -> None:
    assert set(owners(nodes)) == set(nodes)


def test_nodes_have_parts_of_about_the_same_size() -> None:
    found = owners(NODES)
    assert all(found.count(node) > len(KEYS) / 4 for node in NODES)


def test_when_a_node_goes_only_what_it_had_moves() -> None:
    before, after = owners(NODES), owners(("a", "c"))
    assert all(new == old for old, new in zip(before, after, strict=True) if old != "b")


def test_a_service_alone_does_all_and_a_node_that_is_not_named_does_nothing() -> None:
    assert WHOLE.has("order/1")
    assert not NOTHING.has("order/1")
    assert not Share("d", NODES).has("order/1")


def test_claims_of_nodes_that_do_a_part_count_and_others_do_not() -> None:
    assert Share("a", ("a", "web-1")).running(["a.1", "web-1.12", "b.3"]) == {"a.1", "web-1.12"}
    assert WHOLE.running(["b.3"]) == {"b.3"}
