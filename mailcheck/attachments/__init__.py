"""Attachments: their content is not kept, so one that is asked for is read from the mail server again.

Exports: the action (`reading`), the mail of a user by its number (`own_mails`), and one mail from its server
(`one_mail`).
"""
