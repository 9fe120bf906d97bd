"""Settings of the service and its plug-ins: which source wins, and what a mistake says."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from huahuo.actors.plugins.plugin import Brought, Host, Plugin
from huahuo.app.application import standard
from huahuo.app.config import Table
from huahuo.errors import ConfigError

TABLE = Table(standard())
load = TABLE.load


@pytest.mark.parametrize("form", ['["{}"]', ' [ "{}" ]', "[ '{}' ]", "[]", "[ ]"])
def test_a_list_of_json_in_the_environment_is_refused_and_a_secret_in_it_is_not_said(form: str) -> None:
    with pytest.raises(ConfigError, match="separated by commas") as refused:
        load(environ={"HUAHUO_JWT_SECRETS_PREVIOUS": form.format("a" * 40)})
    assert "aaaa" not in str(refused.value)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HUAHUO_PORT": "many"}, "HUAHUO_PORT: port must be a whole number"),
        ({"HUAHUO_PORT": "70000"}, "port must be a whole number of at least 0 and at most 65535"),
        ({"HUAHUO_WINDOW": "0"}, "window must be a whole number of at least 1"),
        ({"HUAHUO_MAIL_ALLOW_PRIVATE": "maybe"}, "must be 1 or 0"),
        ({"HUAHUO_TRUSTED_PROXIES": "proxy"}, "'proxy' is not an address"),
        ({"HUAHUO_LOG_LEVEL": "loud"}, "log_level must be one of debug, info, warning, error"),
        ({"HUAHUO_ADVERTISE": "web-1:8765"}, "advertise: 'web-1:8765' is no URL at which other nodes reach"),
        ({"HUAHUO_ADVERTISE": "http://0.0.0.0:8765"}, "is no URL at which other nodes reach"),
        ({"HUAHUO_ADVERTISE": "http://[::]:8765"}, "is no URL at which other nodes reach"),
        ({"HUAHUO_ADVERTISE": "http://web 1:8765"}, "is no URL at which other nodes reach"),
        (
            {"HUAHUO_ADVERTISE": "http://:secret@web-1:8765"},
            "'http://…@web-1:8765' is no URL at which other nodes",
        ),
        ({"HUAHUO_ADVERTISE": "http://:8765"}, "write http://HOST:PORT"),
        ({"HUAHUO_ADVERTISE": "http://web-1:80000"}, "write http://HOST:PORT"),
        ({"HUAHUO_ADVERTISE": "https://web-1/?a=b"}, "write http://HOST:PORT"),
        ({"HUAHUO_HEARTBEAT_S": "nan"}, "heartbeat_s must be a number of at least"),
        ({"HUAHUO_HEARTBEAT_S": "inf"}, "heartbeat_s must be a number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_source(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(environ=environ)


def test_the_printed_file_holds_every_setting_with_its_default(tmp_path: Path) -> None:
    printed = TABLE.as_toml()
    values = tomllib.loads("\n".join(line[2:] for line in printed.splitlines() if line.startswith("# ")))
    assert set(values) == set(TABLE.names)
    file = tmp_path / "huahuo.toml"
    file.write_text("\n".join(line[2:] for line in printed.splitlines() if line.startswith("# ")))
    assert load(environ={}, file=file) == load(environ={})


def test_what_differs_from_the_defaults_can_be_shown_without_secrets() -> None:
    settings = load(environ={"HUAHUO_WINDOW": "7", "HUAHUO_JWT_SECRET": "canary"})
    assert TABLE.changed(settings) == {"window": "7", "jwt_secret": "(set)"}


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(environ={}, file=tmp_path / "none.toml")


def test_secrets_never_show() -> None:
    shown = repr(load(environ={"HUAHUO_JWT_SECRET": "canary-1", "HUAHUO_MASTER_KEY": "canary-2"}))
    assert "canary" not in shown


class Ringer(Plugin):
    name = "ringer"

    def __init__(self, settings: type[msgspec.Struct]) -> None:
        self._settings = settings

    @property
    def settings(self) -> type[msgspec.Struct]:
        return self._settings

    def bring(self, host: Host) -> Brought:
        return Brought()


def test_a_setting_without_a_meaning_or_of_a_taken_name_is_refused_at_start() -> None:
    class Bare(msgspec.Struct):
        bell: int = 1

    class Taken(msgspec.Struct):
        port: int = 1
        """taken"""

    class Needed(msgspec.Struct):
        bell: int
        """needed"""

    for struct, said in ((Bare, "Bare.bell"), (Taken, "'port' of Taken"), (Needed, "Needed: every setting")):
        with pytest.raises(ConfigError, match=said):
            Table([Ringer(struct)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[providers.outlook]\nhost = []",
            "providers.outlook: there is no key 'host': did you mean 'hosts'?",
        ),
        ("[serve]\nport = 8000", "settings stand in no table: remove the line [serve] above them"),
        ("[provider.outlook]\nhosts = []", "there is no setting 'provider': did you mean 'providers'?"),
        (
            "[providers.outlook]\nhosts = 7",
            "providers.outlook: Expected `array | null`, got `int` - at `hosts`",
        ),
        ('[providers.outlook]\ntls = "ssl"', "providers.outlook: Invalid enum value 'ssl' - at `tls`"),
        ("providers = 1", "providers must be tables: [providers.NAME]"),
    ],
)
def test_a_mistake_in_a_table_names_the_key_and_the_nearest_known_one(
    tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "huahuo.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(environ={}, file=file)
    assert says.replace("array | null", "array") in str(caught.value)
