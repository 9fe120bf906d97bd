"""Files with a byte that is no UTF-8 are damaged, and that is said as other damage is."""

from pathlib import Path

from huahuo.app import service_port

BROKEN = b'{"log":"\xa1"}'


def test_the_file_of_a_running_service(tmp_path: Path) -> None:
    (tmp_path / service_port.SERVICE_FILE).write_bytes(BROKEN)
    assert service_port.read_address(tmp_path) is None
