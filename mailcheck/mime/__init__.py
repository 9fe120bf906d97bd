"""From the bytes of a mail to what a reader sees. Pure. Accepts any bytes and never raises.

Exports: `mail`, the tree of its parts (`parts`), character sets, header words.
"""
