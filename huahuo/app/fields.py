"""Settings as a table: fields of structs by name, and texts or TOML values converted to their types. Pure.

A field is `Annotated[<type>, Meta(description="…", ge=…, le=…)]` and has a default. A field of the type
`Mapping[str, <struct>]` is tables with names of their own: `[providers.outlook]`. The environment has it as
JSON.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from huahuo.errors import ConfigError

SECONDS_MAX: Final = 10 * 365 * 86_400
"""The bound of settings in seconds; a refusal does not name it."""
_LISTED: Final = ": `huahuo config` lists all"
_JSON_LIST: Final = re.compile(r"""\s*\[\s*["'\]]""")
"""How a list in JSON or TOML begins. An address of IPv6 in brackets begins otherwise."""
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "": False}


class Fields:
    """See the module. `owners` are structs by a name of their own; `leave_out`: fields that are no settings.

    Raises:
        ConfigError: two owners have a setting of the same name, or a setting has no meaning or default.
    """

    def __init__(
        self,
        prefix: str,
        owners: Mapping[str, type[msgspec.Struct]],
        *,
        leave_out: Collection[str] = (),
        secrets: Collection[str] = (),
    ) -> None:
        self._prefix = prefix
        self._owners = owners
        self._secrets = secrets
        self._types: dict[str, Any] = {}
        self._owner: dict[str, str] = {}
        self._defaults: dict[str, Any] = {}
        for owner, struct in owners.items():
            try:
                defaults = struct()
            except TypeError:
                raise ConfigError(f"{struct.__name__}: every setting must have a default") from None
            for name, kind in get_type_hints(struct, include_extras=True).items():
                if name not in leave_out:
                    self._add(owner, struct, name, kind)
                    self._defaults[name] = getattr(defaults, name)

    def _add(self, owner: str, struct: type[msgspec.Struct], name: str, kind: Any) -> None:
        if name in self._types:
            raise ConfigError(f"the setting {name!r} of {struct.__name__} is there already")
        if not any(getattr(one, "description", "") for one in get_args(kind)[1:]):
            raise ConfigError(f'{struct.__name__}.{name}: write Annotated[…, Meta(description="…")]')
        self._types[name], self._owner[name] = kind, owner

    @property
    def names(self) -> tuple[str, ...]:
        """Every setting in the order of the structs."""
        return tuple(self._types)

    def variable(self, name: str) -> str:
        """The environment variable of a setting."""
        return self._prefix + name.upper()

    def meaning(self, name: str) -> str:
        """One sentence."""
        return str(get_args(self._types[name])[1].description)

    def default(self, name: str) -> Any:
        """The value that holds where nothing is given."""
        return self._defaults[name]

    def value(self, name: str, first: msgspec.Struct, others: Mapping[str, msgspec.Struct]) -> Any:
        """The value in structs such as `made` returns; `first` is the one without a name."""
        owner = self._owner[name]
        return getattr(others[owner] if owner else first, name)

    def made(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The structs with these values, by the owners' names."""
        return {
            owner: struct(**{name: value for name, value in values.items() if self._owner[name] == owner})
            for owner, struct in self._owners.items()
        }

    def converted(self, values: Mapping[str, object], source: str) -> dict[str, Any]:
        """Values as the fields' types. Raises ConfigError: a name is unknown or a value does not fit."""
        for name, value in values.items():
            if name not in self._types:
                if isinstance(value, Mapping) and any(key in self._types for key in value):
                    raise ConfigError(
                        f"{source}: settings stand in no table: remove the line [{name}] above them"
                    )
                raise ConfigError(
                    f"{source}: there is no setting {name!r}{_nearest(name, self._types) or _LISTED}"
                )
        return {name: self.convert(name, value, source) for name, value in values.items()}

    def convert(self, name: str, value: object, source: str) -> Any:
        """A text or a TOML value as the field's type, within its bounds. Raises ConfigError."""
        kind = get_args(self._types[name])[0]
        given = value
        if (table := _table_of(kind)) is not None:
            return self._tables(name, value, table, source)
        if kind is bool and isinstance(value, str):
            given = _WORDS.get(value.lower(), value)
        elif kind == tuple[str, ...] and isinstance(value, str):
            if _JSON_LIST.match(value):  # else the brackets would be part of a secret or address
                raise ConfigError(self._refusal(name, value, source))
            given = value.split(",")
        elif kind is str and not isinstance(value, str):
            raise ConfigError(self._refusal(name, value, source))
        try:
            converted = msgspec.convert(
                given, self._types[name], strict=False, dec_hook=lambda kind, one: kind(one)
            )
        except (msgspec.ValidationError, TypeError, ValueError):
            raise ConfigError(self._refusal(name, value, source)) from None
        if isinstance(converted, tuple):
            return tuple(item.strip() for item in converted if item.strip())
        return converted

    def _tables(self, name: str, value: object, table: type[msgspec.Struct], source: str) -> dict[str, Any]:
        """Tables by their names. Refusals name the key, and the nearest one where it is unknown."""
        try:
            given = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ConfigError(f"{source}: {name} must be JSON") from None
        if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
            raise ConfigError(f"{source}: {name} must be tables: [{name}.NAME]")
        made = {}
        for one, keys in given.items():
            for key in keys:
                if key not in table.__struct_fields__:
                    known = table.__struct_fields__
                    nearest = _nearest(key, known) or f": there are {', '.join(known)}"
                    raise ConfigError(f"{source}: {name}.{one}: there is no key {key!r}{nearest}")
            try:
                made[one] = msgspec.convert(keys, table)
            except msgspec.ValidationError as error:
                raise ConfigError(f"{source}: {name}.{one}: {error}".replace("`$.", "`")) from None
        return made

    def _refusal(self, name: str, value: object, source: str) -> str:
        shown = "" if name in self._secrets else f", not {value!r}"
        return f"{source}: {name} must be {self._wanted(name)}{shown}"

    def _wanted(self, name: str) -> str:
        """The type and bounds of a setting, in words."""
        kind, meta = get_args(self._types[name])
        if kind is bool:
            return "1 or 0"
        if kind == tuple[str, ...]:
            return "a list of texts (in the environment: separated by commas)"
        if kind in (int, float):
            words = "a whole number" if kind is int else "a number"
            most = "" if meta.le in (None, SECONDS_MAX) else f" and at most {meta.le}"
            least = "" if meta.ge is None else f" of at least {meta.ge}"
            return f"{words}{least}{most}"
        options = get_args(kind)
        return f"one of {', '.join(options)}" if options else "a text"


def toml(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, msgspec.Struct):
        given = {field: getattr(value, field) for field in value.__struct_fields__}
        value = {field: one for field, one in given.items() if one is not msgspec.UNSET}
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)} = {toml(one)}' for key, one in value.items())}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    return str(value).lower()


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f": did you mean {found[0]!r}?" if found else ""


def _table_of(kind: Any) -> type[msgspec.Struct] | None:
    """The struct of a field that is tables by names, None for any other field."""
    if get_origin(kind) is not Mapping:
        return None
    table: type[msgspec.Struct] = get_args(kind)[1]
    return table
