"""What a user of huahuo may see raised: each says what to do."""


class HuahuoError(Exception):
    """Base of the application's own errors; the text is meant for people."""


class ConfigError(HuahuoError):
    """A setting is missing, malformed or contradicts another one."""
