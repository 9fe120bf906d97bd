"""Which mails are parsed together."""

from huahuo.mailcheck.checks.folder_reader import JOB_BYTES_MAX, JOB_MAILS_MAX, RawMail, jobs


def raw(uid: int, size: int) -> RawMail:
    return RawMail(uid, size, None, b"x" * size, truncated=False)


def together(*sizes: int) -> list[list[int]]:
    """The sizes of mails, as their jobs have them."""
    return [[mail.size for mail in some] for some in jobs(raw(uid, size) for uid, size in enumerate(sizes))]


def test_small_mails_are_parsed_in_one_job() -> None:
    assert together(*[3_000] * 10) == [[3_000] * 10]


def test_a_large_mail_has_a_job_of_its_own() -> None:
    assert together(100, JOB_BYTES_MAX + 1, 200) == [[100], [JOB_BYTES_MAX + 1], [200]]


def test_a_job_takes_no_more_mails_and_bytes_than_its_bounds() -> None:
    assert together(*[0] * (JOB_MAILS_MAX + 1)) == [[0] * JOB_MAILS_MAX, [0]]
    half = JOB_BYTES_MAX // 2
    assert together(half, half, half) == [[half, half], [half]]


def test_no_mails_are_no_job() -> None:
    assert together() == []
