"""What an operator is told whose command no service answers."""

from pathlib import Path

import pytest

from huahuo.app import service_port
from huahuo.app.config import Settings
from huahuo.audit.audited_log import Elsewhere, ask_service
from huahuo.errors import ConfigError, HuahuoError
from tests.support.servers.ports import held_port


def settings(directory: Path) -> Settings:
    return Settings(data=directory, jwt_secret="a secret of more than 32 bytes, for tests")


@pytest.mark.parametrize(("action", "done"), [("get_nodes", ""), ("trim_log", ", and may have done it")])
async def test_a_service_that_does_not_answer_in_time_is_told_apart_from_one_that_refused(
    tmp_path: Path, action: str, done: str
) -> None:
    with held_port() as port:
        url = f"http://127.0.0.1:{port}"
        service_port.write_address(tmp_path, url)
        with pytest.raises(HuahuoError) as told:
            await ask_service(settings(tmp_path), action, timeout_s=0.2)
    said = str(told.value)
    began = f"the service at {url} has not answered {action} within 0.2 s{done}; its /readyz says: "
    assert said.startswith(began)
    assert "Connection refused" in said


async def test_what_is_no_address_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--url: "):
        await ask_service(settings(tmp_path), "get_nodes", elsewhere=Elsewhere("http://", "t"))
