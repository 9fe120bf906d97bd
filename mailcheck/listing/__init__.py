"""Lists of mailboxes. Pure.

Exports: what a client asks of one (`asked`), all rows as one object (`cut`), a page at a time in the order of
one field (`order`), and the orders that a roster keeps (`kept`).
"""
