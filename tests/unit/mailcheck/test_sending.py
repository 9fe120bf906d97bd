"""A long import from a program: cut into commands, answered as one, shown as one job."""

from typing import Any

import pytest

from huahuo.mailcheck.roster.importer import parse
from huahuo.mailcheck.sending import Outcome, Piece, import_emails, pieces


class Service:
    """Takes commands as a service does; accounts with `bad` in them are refused."""

    def __init__(self, fails_at: int = 0) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._fails_at = fails_at

    async def send(self, action: str, /, **fields: Any) -> dict[str, Any]:
        self.calls.append((action, fields))
        if len(self.calls) == self._fails_at:
            raise ConnectionError
        if action != "import_emails":
            return {"type": "success", "job_id": 7}
        lines = [(n, line) for n, line in enumerate(fields["data"].split("\n"), 1) if line.strip()]
        failed = [{"line": n, "reason": "no"} for n, line in lines if "bad" in line]
        return {"total": len(lines), "success": len(lines) - len(failed), "failed_details": failed}


def cut(text: str, **bounds: int) -> list[Piece]:
    return [one for one in pieces(text, **bounds) if isinstance(one, Piece)]


@pytest.mark.parametrize("separator", ["，", "；", "｜", "————", " ---- ", "\t"])
def test_names_of_columns_between_any_separators_of_an_import_begin_each_piece(separator: str) -> None:
    names = separator.join(("email", "note", "password"))
    lines = [names, *(separator.join((f"m{n}@x.com", f"n{n}", f"p{n}")) for n in range(6))]
    found = [parse(piece.data, "imap") for piece in cut("\n".join(lines), lines_max=3)]
    told = [one.secrets["password"].reveal() for data in found for one in data.accounts]
    assert told == [f"p{n}" for n in range(6)]


def test_no_secret_shows_in_the_repr_of_a_piece() -> None:
    assert "canary" not in repr(cut("a@x.com----canary"))


async def test_an_import_is_one_outcome_numbered_as_in_the_whole_text() -> None:
    service, heard = Service(), list[tuple[int, int]]()
    text = "\n".join(f"m{n}@x.com----{'bad' if n % 20_001 == 0 else 'ok'}" for n in range(1, 50_001))
    outcome = await import_emails(
        service.send, text, mail_type="imap", told=lambda now, whole: heard.append((now.total, whole))
    )
    assert (outcome.job_id, outcome.total, outcome.success) == (7, 50_000, 49_998)
    assert outcome.failures == [(20_001, "no"), (40_002, "no")]
    assert heard[-1] == (50_000, 50_000)
    assert [action for action, _ in service.calls if action != "import_emails"] == [
        "begin_import",
        "end_import",
    ]
    assert service.calls[-1][1] == {"job_id": 7, "stopped": False}


async def test_nothing_to_import_sends_nothing() -> None:
    service = Service()
    assert await import_emails(service.send, "\n \n") == Outcome()
    assert service.calls == []
