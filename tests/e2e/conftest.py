"""A service, a Dovecot that takes OAuth tokens, the server that gives them out, a user of both.

A file whose tests need another Dovecot or other users has fixtures of these names itself.
"""

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.servers.dovecot import Dovecot, dovecot
from tests.support.servers.serving import Serving, serving
from tests.support.servers.token_server import KEY, TokenServer, token_server
from tests.support.worlds.grants import add_user
from tests.support.worlds.mail_world import MailWorld, real_world


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """A socket that the tests of a file leave open is told there, and not at the end of the process."""
    yield
    gc.collect()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    """A service of its own."""
    with serving(tmp_path / "data") as running:
        yield running


@pytest.fixture(scope="module")
def mails() -> Iterator[Dovecot]:
    """The mail server."""
    with dovecot(token_key=KEY) as server:
        yield server


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    """The token server."""
    with token_server() as server:
        yield server


@pytest.fixture
def user(mails: Dovecot, request: pytest.FixtureRequest) -> str:
    """A user with two mails."""
    return add_user(mails, request.node.name)


@pytest.fixture
async def world() -> AsyncIterator[MailWorld]:
    """A world in real time, whose checks go over IMAP."""
    async with real_world() as made:
        yield made
