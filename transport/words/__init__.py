"""The texts that the transport says to clients: one catalogue for each language. Pure.

Exports the modules `zh` and `en`, whose constants have the same names, and `http_zh` and `http_en` with those
that only HTTP says.
"""
