"""Settings of the service and its plug-ins: which source wins, and what a mistake says."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from huahuo.actors.plugins.plugin import Brought, Host, Plugin
from huahuo.app.application import standard
from huahuo.app.config import Settings, Table
from huahuo.errors import ConfigError

TABLE = Table(standard())
load = TABLE.load


def test_lists_in_the_environment_are_separated_by_commas() -> None:
    assert load(environ={"HUAHUO_ORIGINS": "a.example, b.example,"}).origins == ("a.example", "b.example")


@pytest.mark.parametrize("form", ['["{}"]', ' [ "{}" ]', "[ '{}' ]", "[]", "[ ]"])
def test_a_list_of_json_in_the_environment_is_refused_and_a_secret_in_it_is_not_said(form: str) -> None:
    with pytest.raises(ConfigError, match="separated by commas") as refused:
        load(environ={"HUAHUO_JWT_SECRETS_PREVIOUS": form.format("a" * 40)})
    assert "aaaa" not in str(refused.value)


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_booleans_in_the_environment(value: str, wanted: bool) -> None:
    settings = load(environ={"HUAHUO_MAIL_ALLOW_PRIVATE": value})
    assert settings.plugins["mail"].mail_allow_private is wanted


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


@pytest.mark.parametrize("url", ["http://web-1:8765", "https://web-1.example", "http://[::1]:8765/nodes/"])
def test_the_address_that_a_node_advertises_may_have_a_path(url: str) -> None:
    assert load(environ={"HUAHUO_ADVERTISE": url}).advertise == url


def test_a_flag_is_checked_like_any_other_source() -> None:
    with pytest.raises(ConfigError, match="no setting 'windwo': did you mean 'window'"):
        load(environ={}, flags={"windwo": 1})


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


def test_a_broken_number_in_the_file_is_not_cut_to_a_whole_one(tmp_path: Path) -> None:
    file = tmp_path / "huahuo.toml"
    file.write_text("port = 8765.9\n")
    with pytest.raises(ConfigError, match="port must be a whole number"):
        load(environ={}, file=file)


@pytest.mark.parametrize("content", ["port = ", "\x00"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "huahuo.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(environ={}, file=file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(environ={}, file=tmp_path / "none.toml")


def test_a_variable_that_only_looks_like_a_setting_is_found() -> None:
    environ = {"HUAHUO_WINDWO": "1", "HUAHUO_PORT": "1", "HUAHUO_TOKEN": "x", "HOME": "/"}
    assert TABLE.unknown_variables(environ) == ["HUAHUO_WINDWO"]


def test_secrets_never_show() -> None:
    shown = repr(load(environ={"HUAHUO_JWT_SECRET": "canary-1", "HUAHUO_MASTER_KEY": "canary-2"}))
    assert "canary" not in shown


class Bell(msgspec.Struct):
    """Settings of a plug-in."""

    bell_rings: Annotated[int, Meta(ge=1)] = 3
    """how often it rings"""


class Ringer(Plugin):
    name = "ringer"

    def __init__(self, settings: type[msgspec.Struct]) -> None:
        self._settings = settings

    @property
    def settings(self) -> type[msgspec.Struct]:
        return self._settings

    def bring(self, host: Host) -> Brought:
        return Brought()


def test_a_plug_in_has_settings_of_its_own_from_the_same_sources() -> None:
    table = Table([Ringer(Bell)])
    assert table.load(environ={}).plugins == {"ringer": Bell(3)}
    assert table.load(environ={"HUAHUO_BELL_RINGS": "5"}).plugins == {"ringer": Bell(5)}
    assert "## how often it rings (HUAHUO_BELL_RINGS)\n# bell_rings = 3" in table.as_toml()
    with pytest.raises(ConfigError, match="bell_rings must be a whole number of at least 1"):
        table.load(environ={"HUAHUO_BELL_RINGS": "0"})


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


def providers_of(settings: Settings) -> Any:
    return settings.plugins["mail"].providers


def test_tables_with_names_come_from_the_file_or_as_json_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "huahuo.toml"
    file.write_text('[providers.outlook]\nhosts = ["a.example:993"]\nscopes = [["x", "y"], []]\n')
    outlook = providers_of(load(environ={}, file=file))["outlook"]
    assert (outlook.hosts, outlook.scopes) == (("a.example:993",), (("x", "y"), ()))
    settings = load(environ={"HUAHUO_PROVIDERS": '{"corp": {"auth": "plain"}}'}, file=file)
    assert list(providers_of(settings)) == ["corp"]


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


def test_settings_of_plugins_that_hold_secrets_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "huahuo.toml"
    file.write_text('mail_proxy = "http://u:canary@h:1"\n[providers.gmail]\nclient_secret = "canary"\n')
    settings = load(environ={}, file=file)
    assert "canary" not in str(TABLE.changed(settings)) + repr(settings)
    assert TABLE.changed(settings)["providers"] == "(set)"
