"""What users are told about administration, accounts, API keys and webhooks, in English.

Each text has the name of its Chinese one in `huahuo.zh`.
"""

DONE = "done"
NO_OWNER = "there is nothing of this name"
COMPACTING = "the log is being compacted already"
COMPACTED = "compacted"
INDEXING = "the audit index is being built: try again later"
INVALID_FIELD = "a field is not valid"

KEY_MADE_BEFORE = "the key was made before and is shown once: if it is lost, revoke it and make another one"
KEY_REVOKED = "the key is revoked"
REFUSED = "that was not done"
ADMINS_ONLY = "only administrators may do this"

USER_ADDED = "the user is added"
USER_DISABLED = "the user can no longer sign in"
USER_ENABLED = "the user can sign in again"
USER_REMOVED = "the user is removed"
PASSWORD_SET = "the password is set"  # noqa: S105  a text
PASSWORD_CHANGED = "the password is changed: sign in again"  # noqa: S105  a text
SIGNED_OUT = "all sessions are ended"
NO_SUCH_USER = "there is no such user"
OLD_PASSWORD_WRONG = "the old password is wrong"  # noqa: S105  a text

NAME_TAKEN = "this name is taken"
NAME_INVALID = "a name has 1 to {} visible characters and no blank at its ends"
PASSWORD_LENGTH = "a password has {} to {} characters"  # noqa: S105  a text
NEEDS_ARGON2 = (
    "this service has no passwords: its operator can install them by pip install 'huahuo[passwords]'"
)
REGISTRATION_OFF = "registration is switched off"
LINK_USED = "this link was used, or is of another start of the service"
USERS_ALREADY = "there are users already"
LAST_ADMIN = "this is the last administrator: add another one first"
TOO_OFTEN = "too many tries: try again later"
REGISTRATION_ON = "anybody may make an account"

HOOK_MADE_BEFORE = (
    "the webhook was made before; its secret is shown once: if it is lost, remove it and make another one"
)
HOOK_REMOVED = "the webhook is removed"
QUEUED_AGAIN = "the dead letters are queued again"
CHANGED_BEFORE = "the secret was changed before and is shown once: if it is lost, change it again"
HOOK_PAUSED = "the webhook is paused; what happens meanwhile waits"
HOOK_RESUMED = "the webhook goes on"
