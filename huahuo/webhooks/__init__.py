"""Webhooks: requests to addresses that users name, when events of their streams match; tried for a day.

Exports: the hooks folded from the log and what they match (`hooks`), their signatures (`signing`), requests
to checked addresses (`posting`), deliveries as durable effects (`deliveries`, with rows in `letters` and
books in `books`), changes (`book`), the actions over the wire (`actions`), and all together (`webhooks`).
"""
