"""What users of mail are told, in English. See `zh`."""

GROUP_PROXY_SET = "the group's mailboxes use this proxy from now on"
GROUP_PROXY_TAKEN = "the group has no proxy of its own any more"
GROUP_NAME = "the name of a group has 1 to {} characters"
