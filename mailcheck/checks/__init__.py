"""Checks of mailboxes, which are durable effects, and watching them for new mails.

Exports: what a check gets and reports, and its effect (`check_effect`), the check of one mailbox on its
server (`check`, `folder_reader`), how it signs in (`sign_in`), the mailboxes as all of them reach them
(`mailboxes`), the places at each server (`connections`), and the watchers (`watchers`), with how long they
wait (`backoff`).
"""
