"""Three nodes and an ordered log in a simulated network: crashes, partitions, doubles, lag, wrong clocks.

Whatever happens, all nodes hold one history in the end, and it keeps the promises that the checkers know.
"""

from typing import Any

import pytest
from simloop import SimLoop

from tests.support.checkers import log_side, trust_side
from tests.support.checkers.all import failures
from tests.support.proofs import WHOLE
from tests.support.worlds.sim_cluster import SimCluster, durable
from tests.support.worlds.simworld import run

SEEDS = range(200 if WHOLE else 10)
FAULTS = 6
CHECKERS = (
    log_side.acknowledged_is_there,
    log_side.nothing_unasked,
    log_side.numbers_follow,
    log_side.looks_are_prefixes,
    log_side.commands_once,
    log_side.senders_in_order,
    trust_side.nodes_agree,
)


@pytest.mark.parametrize("seed", SEEDS)
def test_three_nodes_hold_one_history_after_any_faults(seed: int) -> None:
    told: dict[str, Any] = {}

    async def world(loop: SimLoop) -> None:
        cluster = told["cluster"] = SimCluster(loop)
        await cluster.play(FAULTS)
        first, *rest = (durable(node) for node in cluster.nodes)
        told["equal"] = [other == first for other in rest]
        log = cluster.nodes[0].log
        assert log is not None
        told["verified"] = await log.verify()

    run(world, seed)
    history = told["cluster"].history
    assert told["equal"] == [True, True], "I27"
    assert told["verified"] == len(history.log)
    assert failures(checker(history) for checker in CHECKERS) == []
    assert sum(one.answer == "ok" for one in history.asked) > 20, "it proved something"


def test_the_same_seed_gives_the_same_history() -> None:
    logs = []

    async def world(loop: SimLoop) -> None:
        cluster = SimCluster(loop)
        await cluster.play(3)
        logs.append(cluster.history.log)

    assert run(world, 3) == run(world, 3)
    assert logs[0] == logs[1]
