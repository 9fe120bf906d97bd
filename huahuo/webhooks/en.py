"""What users of webhooks are told, in English. See `zh`."""

MADE_BEFORE = (
    "the webhook was made before; its secret is shown once: if it is lost, remove it and make another one"
)
HOOK_REMOVED = "the webhook is removed"
QUEUED_AGAIN = "the dead letters are queued again"
REFUSED = "that was not done"
ADMINS_ONLY = "only administrators may do this"
CHANGED_BEFORE = "the secret was changed before and is shown once: if it is lost, change it again"
HOOK_PAUSED = "the webhook is paused; what happens meanwhile waits"
HOOK_RESUMED = "the webhook goes on"
