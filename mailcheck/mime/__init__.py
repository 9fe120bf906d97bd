"""Mails as people see them, whatever bytes came. Pure; nothing here raises.

Exports: `mail`, the tree of its parts, character sets, header words.
"""
