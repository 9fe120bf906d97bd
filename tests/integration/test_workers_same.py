"""What the service promises on its own port holds on the port of a worker: the same tests, there.

The suite runs a part of them; with HUAHUO_WHOLE=1, as `make check-all` does, all that do not reach into one
process.
"""

import os
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.worlds.modules import again
from tests.support.worlds.wire import PLACE

PART: Final = ("test_http_streams", "test_server_session", "test_tongues")
MORE: Final = (
    "test_compression", "test_durable_streams", "test_http_calls",
    "test_server_acks", "test_server_end", "test_server_flow", "test_server_input",
)  # fmt: skip
OF_ONE_PROCESS: Final = frozenset(
    {
        "test_an_ack_like_the_last_one_is_processed_and_kept",
        "test_an_ack_makes_room_at_once_for_the_events_that_wait",
        # They break a part that a worker asks its owner for, or look at what happens within one turn.
        "test_a_client_whose_snapshot_cannot_be_had_for_long_is_told_when_to_come_back",
        "test_a_client_welcomed_in_the_very_turn_of_the_drain_is_told_too",
        "test_a_connection_that_ended_is_freed_without_the_collector",
        "test_an_idle_connection_has_no_task_and_no_timer",
        # They send plain requests, which a worker hands to its owner to count.
        "test_sockets_that_keep_too_many_bytes_are_cut_off_and_a_quiet_one_stays",
        "test_who_is_about_to_sign_in_counts_as_unauthenticated",
    }
)

WHOLE: Final = (*PART, *MORE) if os.environ.get("HUAHUO_WHOLE") else PART


@pytest.fixture(autouse=True)
def on_the_port_of_a_worker() -> Iterator[None]:
    token = PLACE.set("worker")
    yield
    PLACE.reset(token)


globals().update(again(WHOLE, OF_ONE_PROCESS))
assert again([*PART, *MORE]).keys() >= OF_ONE_PROCESS, "each name is that of a test"
