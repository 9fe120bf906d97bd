"""Where settings come from: defaults < `huahuo.toml` < `HUAHUO_*` environment < flags.

Pure except for reading a file.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from huahuo.actors.plugins.plugin import Plugin
from huahuo.app.config import SECRETS, Settings
from huahuo.app.fields import Fields, toml
from huahuo.errors import ConfigError

PREFIX = "HUAHUO_"

_OTHER_VARIABLES = {"HUAHUO_APP", "HUAHUO_TOKEN"}
"""Variables that commands read but that are not settings."""


class Table(Fields):
    """The settings of the service and of its plug-ins."""

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        own = {plugin.name: plugin.settings for plugin in plugins if plugin.settings is not None}
        self._secret = SECRETS.union(*(plugin.secret_settings for plugin in plugins))
        super().__init__(PREFIX, {"": Settings, **own}, leave_out=("plugins",), secrets=self._secret)

    def load(
        self,
        *,
        environ: Mapping[str, str],
        file: Path | None = None,
        flags: Mapping[str, Any] | None = None,
        base: Mapping[str, Any] | None = None,
    ) -> Settings:
        """The effective settings. `flags` whose value is None count as not given. `base` yields to all.

        Raises:
            ConfigError: a name is unknown or a value is invalid. The text has the source and the name, but
                never the value of a secret.
        """
        values = self.converted(base or {}, "the application")
        if file is not None:
            given = {name: value for name, value in _read(file).items() if name != "app"}  # see `application`
            values.update(self.converted(given, str(file)))
        variables = {
            name: environ[self.variable(name)] for name in self.names if self.variable(name) in environ
        }
        values.update(
            {name: self.convert(name, text, self.variable(name)) for name, text in variables.items()}
        )
        given = {name: value for name, value in (flags or {}).items() if value is not None}
        values.update(self.converted(given, "settings"))
        made = self.made(values)
        settings: Settings = made.pop("")
        _check(settings)
        return msgspec.structs.replace(settings, plugins=made)

    def unknown_variables(self, environ: Mapping[str, str]) -> list[str]:
        """Variables with the prefix of settings that are not settings, most likely misspelled.

        They cause a warning rather than an error, because a host may have variables of newer versions or of
        other programs.
        """
        known = {self.variable(name) for name in self.names} | _OTHER_VARIABLES
        return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)

    def as_toml(self) -> str:
        """A `huahuo.toml` with every setting as a comment, with its meaning and its default."""
        lines = [
            "## Settings of huahuo. Remove the # in front of a line to change it.",
            "## The environment (HUAHUO_PORT=…) and flags win over this file.",
        ]
        for name in self.names:
            value = toml(self.default(name))
            lines += ["", f"## {self.meaning(name)} ({self.variable(name)})", f"# {name} = {value}"]
        return "\n".join(lines) + "\n"

    def changed(self, settings: Settings) -> dict[str, str]:
        """The settings that differ from the defaults, as TOML values without secrets."""
        values = {name: self.value(name, settings, settings.plugins) for name in self.names}
        return {
            name: "(set)" if name in self._secret else toml(value)
            for name, value in values.items()
            if value != self.default(name)
        }


def _check(settings: Settings) -> None:
    """Raises ConfigError: an address among the settings is none."""
    for network in settings.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ConfigError(f"trusted_proxies: {network!r} is not an address or a network") from None
    if settings.advertise and not _is_reachable_at(settings.advertise):
        shown = re.sub("//.*@", "//…@", settings.advertise)
        raise ConfigError(
            f"advertise: {shown!r} is no URL at which other nodes reach this one: write"
            " http://HOST:PORT, or https://HOST"
        )


_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  nothing listens: they are refused


def _is_reachable_at(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.hostname not in _ANYWHERE
            and parts.port != 0
            and "@" not in parts.netloc
            and not (parts.query or parts.fragment or any(map(str.isspace, url)))
        )
    except ValueError:  # of the port, or of brackets
        return False


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))  # Windows' editors write a mark
    except OSError as error:
        hint = ": make it by `huahuo config > huahuo.toml`" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"cannot read {file}: {error.strerror}{hint}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
