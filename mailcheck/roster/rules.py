"""Rules for an account: address, type, server, secrets. Pure; a violation is a `Refusal`."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from huahuo.actors.plugins.calls import Refusal
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.roster.importer import is_address
from huahuo.mailcheck.servers.faults import HostRefused
from huahuo.mailcheck.servers.host_rules import host_name
from huahuo.mailcheck.servers.providers import BUILT_IN, TOKENS, Providers, auth_of
from huahuo.mailcheck.servers.proxies import parse_proxy
from huahuo.mailcheck.words import zh

SIGN_IN_SECRETS: Final = ("password", "client_id", "refresh_token")
"""What a mailbox signs in with, by the names under which it is sealed."""
SECRET_CHARS_MAX: Final = 8192
FOLDERS_MAX: Final = 20
"""Of one mailbox, besides INBOX."""
FOLDER_CHARS_MAX: Final = 200
_PORT_MAX: Final = 65_535
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def refuse_address(email: str) -> Refusal | None:
    """The refusal of an address, None if it is acceptable."""
    if not email:
        return Refusal("invalid_field", zh.BOTH_NEEDED, "email")
    return None if is_address(email) else Refusal("invalid_field", zh.NO_ADDRESS, "email")


def refuse_settings(
    providers: Providers, mail_type: str | None, server: str, port: int | None
) -> Refusal | None:
    """The refusal of a type, server or port, None if all that are given are acceptable."""
    if mail_type is not None and mail_type not in providers.names:
        return Refusal("invalid_field", zh.NO_SUCH_TYPE, "mail_type")
    if port is not None and not 1 <= port <= _PORT_MAX:
        return Refusal("invalid_field", zh.NO_PORT, "port")
    if server.strip():
        try:
            host_name(server)
        except HostRefused:
            return Refusal("invalid_field", zh.NO_SERVER, "server")
    return None


def refuse_elsewhere(providers: Providers, mail_type: str, email: str, server: str) -> Refusal | None:
    """The refusal of an address of one provider as a mailbox of another, which would get its password.

    Accounts of Microsoft may have any address.
    """
    own = providers.type_of(email)
    if own in (None, mail_type) or mail_type in ("imap", "outlook") or mail_type not in BUILT_IN:
        return None
    return None if server.strip() else Refusal("invalid_field", zh.OTHER_TYPE.format(own, own), "mail_type")


def refuse_folders(folders: Sequence[str]) -> Refusal | None:
    """The refusal of folders to read, None if all may be names of folders."""
    for name in folders:
        if not 0 < len(name) <= FOLDER_CHARS_MAX or _CONTROL.search(name):
            return Refusal("invalid_field", zh.FOLDER_NAME.format(FOLDER_CHARS_MAX), "folders")
    return None


def refuse_secrets(secrets: Mapping[str, Secret]) -> Refusal | None:
    """The refusal of secrets that no login can use, None if all are acceptable."""
    for name, secret in secrets.items():
        value = secret.reveal()
        if len(value) > SECRET_CHARS_MAX or any(char in value for char in "\r\n\0"):
            return Refusal("invalid_field", zh.FIELD_CONTENT, name)
        if name == "proxy":
            try:
                parse_proxy(value)
            except ValueError as error:
                return Refusal("invalid_field", zh.NO_PROXY, f"proxy: {error}")
    return None


def refuse_missing(providers: Providers, mail_type: str, secrets: Mapping[str, Secret]) -> Refusal | None:
    """The refusal of secrets that do not suffice to sign in with this type, None if they do."""
    provider = providers.of(mail_type)
    grant = "refresh_token" in secrets and ("client_id" in secrets or bool(provider.client_id))
    if auth_of(provider, password="password" in secrets, grant=grant) is not None:
        return None
    if mail_type == "outlook":
        return Refusal("invalid_field", zh.OUTLOOK_GRANT)
    if provider.auth in TOKENS:
        return Refusal("invalid_field", zh.GRANT_NEEDED, "refresh_token")
    return Refusal("invalid_field", zh.BOTH_NEEDED, "password")
