"""The machine's chance: ids are drawn many at a time, and nobody gets one twice."""

import os
import threading

from huahuo.eventstore.ambient import SystemAmbient

DRAWN_AT_ONCE = 256


def test_threads_that_ask_together_get_different_ids() -> None:
    found: list[str] = []
    begin = threading.Barrier(4)

    def ask() -> None:
        begin.wait()
        found.extend([SystemAmbient().token() for _ in range(5 * DRAWN_AT_ONCE)])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(found) == 4 * 5 * DRAWN_AT_ONCE


def test_a_forked_process_draws_others_than_its_parent() -> None:
    SystemAmbient().token()  # now some are left
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.write(writes, "".join(SystemAmbient().token(16) for _ in range(8)).encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as answer:
        theirs = answer.read()
    os.waitpid(child, 0)
    ours = [SystemAmbient().token(16) for _ in range(8)]
    assert len(theirs) == 8 * 32
    assert not any(one in theirs for one in ours)
