"""Attachments: their content is not kept, so one that is asked for is read from the mail server again.

Exports: the action (`reading`), the mail of a user by its number (`own_mails`), one mail from its server
(`one_mail`), and the bounds of queries that wait for a mail server (`asking`).
"""
