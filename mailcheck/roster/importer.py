"""Account lines of an import text: `email----password----client_id----refresh_token`. Pure.

Between fields there may also be a tab, `|`, a comma or a semicolon (as in CSV, with quotes). Each line is
split by the first of `----`, tab and `|` that occurs in it, else by the comma, or by the semicolon if that
leaves an address, or the name of their column, at the beginning, or if the comma leaves none. A first line
that names columns says where they are; if it is CSV, all lines are, as one is that begins with an address
in quotes.

Full-width forms of these separate where one follows the address at the beginning of a line without `----`,
or where a line has no other separator. All others of its kind separate too; others may be part of a
password. In a line without any of these, the colon or the blank behind an address separates it from its
password. A line may also be a JSON object with the names of columns.

No reason repeats text of a line, which may hold a password. A failure is identified by its line number.

What sellers and exports add to an account in a line: a recovery address, a phone number, … Pure.

None of it is a client id or a refresh token. It is left out where the rest of the line is certain.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from huahuo.eventstore.model import Secret
from huahuo.mailcheck import zh
from huahuo.mailcheck.records import LineFailure

UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""The form of a client id."""
_PHONE: Final = re.compile(r"\+?\d(?:[ ().-]{0,2}\d){6,14}")
_DATE: Final = re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}(?:[ T]\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?Z?)?")
_APP_PASSWORD: Final = re.compile(r"[a-z]{4}([ -])[a-z]{4}\1[a-z]{4}\1[a-z]{4}")
_TWO_FACTOR: Final = re.compile(
    r"[A-Z2-7]{16}(?:[A-Z2-7]{8,48})?|[a-z2-7]{32}|(?:[A-Za-z2-7]{4} ){3,15}[A-Za-z2-7]{4}"
)
"""Secrets of authenticator apps: base32, also in groups of four."""
PORT: Final = re.compile(r"[0-9]{1,5}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.){1,9}[A-Za-z]{2,24}")
_OF_GOOGLE: Final = ".apps.googleusercontent.com"
"""A client id ends so, and looks like a host."""
_OWN: Final = 2
"""Fields that each account has: address and password."""
_GRANT: Final = 2
_WHOLE: Final = _OWN + _GRANT
TOKEN_CHARS_MIN: Final = 40
"""A field that is longer is a refresh token rather than a password."""


def without(fields: Sequence[str], is_address: Callable[[str], bool]) -> list[str]:
    """The fields of the account alone; all of them, where it is not certain which these are."""
    own, rest = list(fields[:_OWN]), [field for field in fields[_OWN:] if field]
    if not any(map(is_address, own)):
        return list(fields)
    grant = any(UUID.fullmatch(field) for field in rest)
    if grant and any(len(field) > TOKEN_CHARS_MIN and not is_address(field) for field in own):
        return list(fields)  # the password is one of the others, and may look like anything
    forms = (_PHONE, _DATE) if grant and len(fields) <= _WHOLE else (_PHONE, _DATE, _TWO_FACTOR)
    others = [
        field for field in rest if not is_address(field) and not any(form.fullmatch(field) for form in forms)
    ]
    app = [] if grant else [field for field in rest if _APP_PASSWORD.fullmatch(field)]
    if len(app) == 1 and not set(others).difference(app):
        return [next(filter(is_address, own)), *app]  # of the passwords the one that signs in over IMAP
    if len(others) == len(rest) or (others and not (grant and len(others) <= _GRANT)):
        return list(fields)
    return own + others


def server_of(fields: Sequence[str]) -> tuple[str, int] | None:
    """The server in the place of a grant: `host:port`, or a host and a port. None: it is none."""
    if not _OWN < len(fields) <= _WHOLE:
        return None
    host, _, port = fields[_OWN].partition(":")
    ports = [one for one in (port, *fields[_OWN + 1 :]) if one]
    is_server = len(ports) == 1 and PORT.fullmatch(ports[0]) and _HOST.fullmatch(host)
    return (host, int(ports[0])) if is_server else None


def is_no_client_id(field: str, is_address: Callable[[str], bool]) -> bool:
    """Whether it is surely something else: an address, a phone number, a server or a port."""
    host = field.partition(":")[0]
    return (
        is_address(field)
        or any(form.fullmatch(field) for form in (_PHONE, PORT))
        or (_HOST.fullmatch(host) is not None and not host.endswith(_OF_GOOGLE))
    )


LINES_MAX: Final = 20_000
LINES_A_STRETCH: Final = 32
"""Lines read between two pauses: about 0.2 ms of work."""
SEPARATOR: Final = "----"
"""Matched from the left, so a field may begin with a hyphen; what follows shows whether one ends with it."""
_OTHERS: Final = ("\t", "|")
_COLUMNS: Final = ("email", "password", "client_id", "refresh_token")
_FURTHER: Final = ("mail_type", "login", "server", "port", "use_ssl")
"""What only lines with names may have."""
_NAMES: Final = {name.replace("_", ""): name for name in (*_COLUMNS, *_FURTHER)} | {
    "host": "server", "imaphost": "server", "imapserver": "server", "imapport": "port", "ssl": "use_ssl",
}  # fmt: skip
_FLAGS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
FIELDS_OAUTH: Final = 4
FIELDS_MIN: Final = 2

_WIDE_SEPARATOR = re.compile("—{2,}|[，；｜]")
"""As Chinese keyboards write them: `————` for `----`."""
_NOT_OF_CSV = re.compile(r"----|[\t|]")
_NARROW = str.maketrans("，；", ",;")
_NOT_OF_LISTS: Final = (SEPARATOR, '"', *_OTHERS, "——", "｜")
_LINE_BYTES = 430
_ADDRESS = re.compile(r"[^\s@\x00-\x1f\x7f<>(),;:\"\\]{1,64}@[^\W_](?:[\w.-]{0,251}[^\W_])?")

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\xad"))
"""What web pages put between characters. No password has them."""
_WIDE_AT = re.compile(r"^([^\s@＠﹫]{1,64})[＠﹫]")
_ITEM = re.compile(r"^(?:\d{1,6}(?:[.．][ \t]+|[)）、][ \t]*)|[-*•·][ \t]+)(?=[^\s@＠﹫]{1,64}[@＠﹫])")
"""The number or the mark of an item of a list, before its address."""
_QUOTED = re.compile(r'"[^"@\s]+@[^"@\s]+"\s?[,;]')
"""A line of CSV that begins with an address in quotes: what its other fields have separates nothing."""
_HOST_NAME = re.compile(r"@[\w.-]+\.[^\W\d_]{2,}$")
"""As in most addresses, and in few passwords with an `@`."""


class Account(msgspec.Struct, frozen=True):
    """One account of an import, with its line number. Empty fields are left out of `secrets`."""

    line: int
    email: str
    secrets: dict[str, Secret]
    mail_type: str = ""
    """Of this line alone."""
    server: str = ""
    port: int | None = None
    use_ssl: bool | None = None


class ImportData(msgspec.Struct, frozen=True):
    """A parsed import text. `total` counts accounts and failures: no blank lines, no comments."""

    total: int
    accounts: tuple[Account, ...]
    failures: tuple[LineFailure, ...]


def bytes_in_memory(text: str) -> int:
    """About what the text and what `parse` makes of it take, bytes (measured: 430 a short line)."""
    return 2 * len(text) + _LINE_BYTES * (text.count("\n") + 1)


class TooManyLines(ValueError):  # noqa: N818  a fact about the text
    """The text has more lines than an import may have."""


def is_address(text: str) -> bool:
    """Whether `text` can be a mailbox's address.

    Three hyphens are a separator that was mistyped. What follows may be a password, and addresses are shown.
    """
    odd = ".." in text or "---" in text
    return len(text) <= 254 and not odd and _ADDRESS.fullmatch(text) is not None  # noqa: PLR2004


def parse(
    text: str, mail_type: str, lines_max: int = LINES_MAX, *, pause: Callable[[], None] = lambda: None
) -> ImportData:
    """Read an import text. Ignores blank lines and comments, and reorders swapped fields.

    A repeated address is accepted once. `pause` is called every `LINES_A_STRETCH` lines.

    Raises:
        TooManyLines: more than `lines_max` lines are not blank.
    """
    accounts: list[Account] = []
    failures: list[LineFailure] = []
    seen: set[str] = set()
    total = 0
    columns: dict[str, int] | None = None
    first, of_csv = True, False
    for number, raw in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if not number % LINES_A_STRETCH:
            pause()
        line = _tidied(raw)
        if not line:
            continue
        fields: list[str] = []
        named = _of_json(line) if line[0] == "{" else None
        if named is None:
            fields = _as_csv(line) if of_csv and not _separated(line) else []
            fields = fields if _has_address(fields) else _fields(line)
        if first:
            first = False
            columns = _columns(fields)
            if columns is not None:
                of_csv = not any(one in line for one in (SEPARATOR, *_OTHERS))
                continue
        total += 1
        if total > lines_max:
            raise TooManyLines(f"more than {lines_max} lines")
        if named is None and columns is not None:
            named = {name: fields[at] for name, at in columns.items() if at < len(fields)}
        parsed: Account | LineFailure
        if named is not None:
            parsed = _named(number, named, mail_type)
        elif line[0] == "#":
            parsed = LineFailure(number, zh.COMMENT_OR_ACCOUNT)
        elif _has_two_accounts(line):
            parsed = LineFailure(number, zh.TWO_ACCOUNTS)
        else:
            parsed = _line(number, without(fields, is_address), oauth=mail_type == "outlook")
        if isinstance(parsed, Account) and parsed.email.lower() in seen:
            parsed = LineFailure(number, zh.ADDRESS_TWICE)
        if isinstance(parsed, Account):
            seen.add(parsed.email.lower())
            accounts.append(parsed)
        else:
            failures.append(parsed)
    return ImportData(total, tuple(accounts), tuple(failures))


def _tidied(raw: str) -> str:
    """The line without what stands around an account, empty for a comment."""
    line = raw.strip()
    if not line.isascii():
        line = line.translate(_INVISIBLE).strip()
    if line in ("[", "]") or (line[:1] == "#" and ("@" not in line or line[1:2].isspace())):
        return ""
    return _WIDE_AT.sub(r"\1@", _ITEM.sub("", line, count=1), count=1)


def _of_json(line: str) -> dict[str, str] | None:
    """The fields of an object by the names of columns, None if it is none."""
    try:
        found = msgspec.json.decode(line.rstrip(", "), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
    return {
        _name(name): str(value).strip()
        for name, value in found.items()
        if isinstance(value, str | int | float)
    }


def _name(text: str) -> str:
    """The column that a name means."""
    plain = re.sub("[ _-]", "", text.lower())
    return _NAMES.get(plain, plain)


def _named(number: int, given: Mapping[str, str], mail_type: str) -> Account | LineFailure:
    """The account of a line whose fields have names."""
    kind, port = given.get("mail_type", ""), given.get("port", "")
    if port and not PORT.fullmatch(port):
        return LineFailure(number, zh.NO_PORT)
    parsed = _line(number, [given.get(name, "") for name in _COLUMNS], oauth=(kind or mail_type) == "outlook")
    if isinstance(parsed, LineFailure):
        return parsed
    login = given.get("login", "")
    return replace(
        parsed,
        secrets=parsed.secrets | ({"login": Secret(login)} if login else {}),
        mail_type=kind,
        server=given.get("server", ""),
        port=int(port) if port else None,
        use_ssl=_FLAGS.get(given.get("use_ssl", "").lower()),
    )


def _separated(line: str) -> bool:
    """Whether it begins with an address, and one of the separators that CSV has not."""
    found = _NOT_OF_CSV.search(line)
    return found is not None and is_address(line[: found.start()].strip())


def _fields(line: str) -> list[str]:
    if _QUOTED.match(line):
        found = _as_csv(line)
    elif SEPARATOR in line:
        found = _with_hyphens([field.strip() for field in line.split(SEPARATOR)])
    elif (wide := _WIDE_SEPARATOR.search(line)) and is_address(line[: wide.start()].strip()):
        found = _split_wide(line, wide[0])
    elif other := next((one for one in _OTHERS if one in line), ""):
        found = line.split(other)
    elif "," in line or ";" in line:
        found = _as_csv(line)
    elif wide:
        found = _split_wide(line, wide[0])
    else:
        found = _by_colon_or_space(line)
    while len(found) > FIELDS_OAUTH and not found[-1].strip():
        found.pop()  # a separator at the end
    return [field.strip() for field in found]


def _by_colon_or_space(line: str) -> list[str]:
    """Fields behind an address, separated by what passwords may have too: only where the rest is certain."""
    address, colon, rest = line.partition(":")
    if colon and is_address(address.strip()):
        found = line.split(":")
        grant = len(found) >= FIELDS_OAUTH and any(UUID.fullmatch(field.strip()) for field in found)
        if grant or server_of(found) or any(_has_host(field.strip()) for field in found[FIELDS_MIN:]):
            return found
        return [address, rest]
    found = line.split()
    return found if len(found) == FIELDS_MIN and is_address(found[0]) else [line]


def _split_wide(line: str, separator: str) -> list[str]:
    return re.split("—{2,}" if separator[0] == "—" else separator, line)


def _with_hyphens(fields: list[str]) -> list[str]:
    """Fields between separators, where one ends with a hyphen or the separators are longer than four."""
    if len(fields) > FIELDS_MIN and all(field.startswith("-") for field in fields[1:]):
        return [fields[0], *(field.lstrip("-") for field in fields[1:])]
    for index in range(1, len(fields)):
        rest = fields[index][1:]
        if fields[index].startswith("-") and (UUID.fullmatch(rest) or is_address(rest)):
            fields[index - 1], fields[index] = fields[index - 1] + "-", rest
    return fields


def _as_csv(line: str) -> list[str]:
    found = _split(line, ",")
    if ";" not in line or _is_address_or_name(found[0]):
        return found
    others = _split(line, ";")  # as Excel writes CSV where a comma is part of numbers
    better = _has_address(others) and (_is_address_or_name(others[0]) or not _has_address(found))
    return others if better else found


def _has_two_accounts(line: str) -> bool:
    """Whether commas and semicolons, one within the other, separate more than one address."""
    narrow = line.translate(_NARROW)
    if "," not in narrow or ";" not in narrow or any(one in line for one in _NOT_OF_LISTS):
        return False
    parts = [part.strip() for part in re.split("[,;]", narrow)]
    return sum(map(_has_host, parts)) > 1


def _has_host(text: str) -> bool:
    """Whether it is an address as most are; a password with an `@` seldom is."""
    return is_address(text) and _HOST_NAME.search(text) is not None


def _split(line: str, separator: str) -> list[str]:
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except csv.Error:
        return line.split(separator)


def _has_address(fields: list[str]) -> bool:
    return any(_is_address_or_name(field) for field in fields)


def _is_address_or_name(field: str) -> bool:
    """Whether it is an address, or the name of the column of addresses."""
    return is_address(field.strip()) or field.strip().lower() == "email"


def _columns(fields: list[str]) -> dict[str, int] | None:
    """Where the fields of an account are, if this line names columns."""
    names = [_name(field) for field in fields]
    if "email" not in names:
        return None
    return {name: names.index(name) for name in (*_COLUMNS, *_FURTHER) if name in names}


def _line(number: int, fields: list[str], *, oauth: bool) -> Account | LineFailure:
    server: tuple[str, int] | None = None
    if oauth:
        if len(fields) == FIELDS_OAUTH - 1 and UUID.fullmatch(fields[1]):
            fields = [fields[0], "", *fields[1:]]  # it has no password, and needs none
        if len(fields) != FIELDS_OAUTH:
            return LineFailure(number, zh.FOUR_FIELDS.format(len(fields)))
        email, password, client_id, refresh_token = _sort_oauth(fields)
        if not (email and client_id and refresh_token):
            return LineFailure(number, zh.EMPTY_GRANT)
    else:
        if len(fields) > FIELDS_OAUTH:
            return LineFailure(number, zh.MANY_FIELDS.format(len(fields)))
        if len(fields) < FIELDS_MIN:
            return LineFailure(number, zh.TWO_FIELDS)
        if not all(fields[:FIELDS_MIN]):
            return LineFailure(number, zh.EMPTY_FIELD)
        if len(fields) == FIELDS_OAUTH and all(fields) and any(UUID.fullmatch(field) for field in fields):
            fields = _sort_oauth(fields)
        if not is_address(fields[0]) and is_address(fields[1]):
            fields[0], fields[1] = fields[1], fields[0]
        if (server := server_of(fields)) is not None:
            fields = fields[:FIELDS_MIN]
        email, password, client_id, refresh_token = (*fields, "", "")[:FIELDS_OAUTH]
    if not is_address(email):
        return LineFailure(number, zh.NO_ADDRESS_THERE)
    if is_no_client_id(client_id, is_address) or is_address(refresh_token):
        return LineFailure(number, zh.NO_CLIENT_ID)
    named = {"password": password, "client_id": client_id, "refresh_token": refresh_token}
    account = Account(number, email, {name: Secret(value) for name, value in named.items() if value})
    return account if server is None else replace(account, server=server[0], port=server[1])


def _sort_oauth(fields: list[str]) -> list[str]:
    """The four fields in their proper order, recognised by their forms if these are unambiguous.

    There must be one address and one UUID (the client id). Of the other two the longer is the refresh token.
    If address and client id are in place, the others are swapped only if the password would be too long.
    """
    addresses = [index for index, field in enumerate(fields) if is_address(field)]
    client_ids = [index for index, field in enumerate(fields) if UUID.fullmatch(field)]
    if len(addresses) != 1 or len(client_ids) != 1:
        return fields
    password, token = (fields[i] for i in range(FIELDS_OAUTH) if i not in (addresses[0], client_ids[0]))
    in_place = (addresses[0], client_ids[0]) == (0, 2)
    if len(password) > len(token) and not (in_place and len(password) < TOKEN_CHARS_MIN):
        password, token = token, password
    return [fields[addresses[0]], password, fields[client_ids[0]], token]
