"""What the service promises on its own port holds inside an ASGI server (uvicorn): the same tests, there.

The suite runs a part of them; with HUAHUO_WHOLE=1, as `make check-all` does, all that ask nothing of
the socket itself.
"""

import inspect
import os
from collections.abc import Callable
from typing import Final

import pytest

from tests.support.worlds.modules import within
from tests.support.worlds.services import run
from tests.support.worlds.wire import PLACE

PART: Final = (
    "test_durable_streams",
    "test_http_events",
    "test_http_pages",
    "test_http_plugin_routes",
    "test_http_refusals",
    "test_tongues",
    "test_server_session",
    "test_server_classic",
)
MORE: Final = (
    "test_http_calls", "test_server_acks", "test_server_budget", "test_server_delivery", "test_server_drain",
    "test_server_faults", "test_server_flow", "test_server_input", "test_server_pipelining",
    "test_compression", "test_client_commands", "test_client_end", "test_client_over_http",
    "test_client_resume",
)  # fmt: skip
WHOLE: Final = (*PART, *MORE) if os.environ.get("HUAHUO_WHOLE") else PART

OF_THE_SOCKET: Final = frozenset(
    {
        # Framing, pings and handshakes are the other server's.
        "test_an_ack_between_the_parts_of_a_message_is_a_breach",
        "test_an_ack_in_two_segments_is_one_ack",
        "test_a_wedged_peer_is_gone_after_two_heartbeats_and_its_socket_is_freed",
        "test_a_flood_of_pings_that_nobody_reads_the_answers_of_is_cut_off",
        "test_a_client_that_does_not_finish_the_handshake_is_cut_off",
        "test_a_socket_without_a_handshake_cannot_hold_it",
        # The port stays open after a drain; a handshake is then answered 503.
        "test_a_drained_server_takes_nobody",
        "test_a_client_welcomed_in_the_very_turn_of_the_drain_is_told_too",
        # uvicorn closes at a half-close, and has tasks of its own.
        "test_requests_on_one_connection_are_answered_in_order",
        "test_a_client_that_asked_nothing_more_is_gone_with_its_half_close",
        "test_frames_behind_a_refused_upgrade_are_dropped",
        "test_an_idle_connection_has_one_task_and_no_timer",
        "test_what_waits_behind_the_most_commands_is_bounded",
        # A request with two lengths is the other server's to refuse.
        "test_a_body_with_two_ends_is_refused_and_ends_its_connection",
        # One frame, the last, is remembered for all sockets (`asgi_socket.Unwrapped`).
        "test_a_connection_that_ends_while_replies_are_built_leaves_nothing_to_the_collector",
    }
)


@pytest.mark.parametrize(
    "test",
    [test for module in WHOLE for test in within(module) if test.__name__ not in OF_THE_SOCKET],
    ids=lambda test: test.__name__,
)
def test_inside_an_asgi_server(test: Callable[[], object]) -> None:
    token = PLACE.set("asgi")
    try:
        made = test()
        if inspect.iscoroutine(made):
            run(made)
    finally:
        PLACE.reset(token)
