"""What the service promises on its own port holds inside an ASGI server (uvicorn): the same tests, there.

The suite runs a part of them; with HUAHUO_WHOLE=1, as `make check-all` does, all that ask nothing of
the socket itself.
"""

import os
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.worlds.modules import again
from tests.support.worlds.wire import PLACE

PART: Final = (
    "test_durable_streams",
    "test_http_calls",
    "test_http_requests",
    "test_http_streams",
    "test_server_session",
    "test_tongues",
)
MORE: Final = (
    "test_client", "test_compression", "test_copies", "test_lists", "test_openapi", "test_server_acks",
    "test_server_end", "test_server_faults", "test_server_flow", "test_server_input", "test_server_rest",
)  # fmt: skip
WHOLE: Final = (*PART, *MORE) if os.environ.get("HUAHUO_WHOLE") else PART

OF_THE_SOCKET: Final = frozenset(
    {
        # What is no HTTP is the other server's to refuse, in its own words; so is a GET with a body.
        "test_what_is_no_http_is_a_problem_too",
        "test_an_ack_makes_room_at_once_for_the_events_that_wait",
        "test_a_body_with_two_ends_is_refused_and_ends_its_connection",
        "test_a_body_in_too_many_small_chunks_is_refused_before_they_are_all_read",
        # A client's end is told behind the messages that wait, or by the first answer that cannot be sent.
        "test_queries_of_a_client_that_left_wait_for_no_turn_and_its_commands_are_carried_out",
        # Framing, pings, handshakes, and sockets before they are WebSockets are the other server's.
        "test_an_ack_between_the_parts_of_a_message_is_a_breach",
        "test_an_ack_in_two_segments_is_one_ack",
        "test_what_looks_like_an_ack_inside_a_frame_is_none",
        "test_what_comes_with_the_handshake_is_read_behind_it",
        "test_a_breach_of_the_framing_behind_the_upgrade_is_told_after_the_answer",
        "test_a_wedged_peer_is_gone_after_two_heartbeats_and_its_socket_is_freed",
        "test_a_flood_of_pings_that_nobody_reads_the_answers_of_is_cut_off",
        "test_a_flood_of_control_frames_is_cut_off_before_all_of_it_was_read",
        "test_a_sign_in_whose_body_does_not_come_is_cut_off_in_time",
        "test_of_one_user_so_many_requests_are_taken_at_a_time_and_others_are_served",
        "test_who_is_about_to_sign_in_counts_as_unauthenticated",
        "test_a_socket_without_a_handshake_cannot_hold_it",
        "test_a_client_that_does_not_read_its_answer_is_cut_off_in_time",
        "test_a_head_that_comes_byte_by_byte_is_cut_off_in_time",
        "test_a_head_that_goes_on_beyond_the_limit_is_refused",
        "test_over_the_limit_of_an_address_its_oldest_unauthenticated_socket_is_cut_off",
        "test_sockets_that_keep_too_many_bytes_are_cut_off_and_a_quiet_one_stays",
        # It has one limit for messages, before a sign-in as after it, and none for fragments.
        "test_a_larger_message_is_refused_by_its_header_alone",
        "test_a_message_in_fragments_is_refused_by_the_header_that_exceeds_the_limit",
        "test_a_message_of_endless_empty_fragments_is_refused",
        "test_a_smaller_limit_of_messages_holds_before_authentication_too",
        "test_a_wrong_token_raises_no_limit",
        "test_tiny_fragments_count_with_what_each_of_them_costs",
        # The port stays open after a drain; a handshake is then answered 503.
        "test_a_drained_server_takes_nobody",
        "test_a_client_welcomed_in_the_very_turn_of_the_drain_is_told_too",
        # uvicorn closes at a half-close, takes one request of a segment at a time, and has tasks of its own.
        "test_requests_on_one_connection_are_answered_in_order",
        "test_of_several_requests_in_one_segment_the_first_is_answered",
        "test_a_client_that_ends_its_side_gets_its_answers_and_then_the_end",
        "test_a_client_that_asked_nothing_more_is_gone_with_its_half_close",
        "test_a_request_with_a_half_close_is_answered",
        "test_a_sign_in_before_a_half_close_is_answered",
        "test_what_was_said_before_a_half_close_is_carried_out_and_answered",
        "test_frames_behind_a_refused_upgrade_are_dropped",
        "test_an_idle_connection_has_no_task_and_no_timer",
        "test_what_waits_behind_the_most_commands_is_bounded",
        # They look at the own socket: its buffers, how it reads several messages in a turn, how it sends,
        # what it keeps of a handshake.
        "test_a_flood_of_messages_is_handled_in_turns_and_in_order",
        "test_messages_of_a_user_without_room_wait_in_order_while_anothers_are_answered",
        "test_a_socket_that_is_full_ends_its_rest",
        "test_one_that_keeps_a_pace_is_looked_at_every_few_seconds",
        "test_the_answers_of_one_commit_leave_in_one_write",
        # One frame, the last, is remembered for all sockets (`asgi_socket.Unwrapped`).
        "test_a_connection_that_ends_while_replies_are_built_leaves_nothing_to_the_collector",
    }
)


@pytest.fixture(autouse=True)
def inside_an_asgi_server() -> Iterator[None]:
    token = PLACE.set("asgi")
    yield
    PLACE.reset(token)


globals().update(again(WHOLE, OF_THE_SOCKET))
assert again([*PART, *MORE]).keys() >= OF_THE_SOCKET, "each name is that of a test"
