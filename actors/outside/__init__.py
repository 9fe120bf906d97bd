"""Servers that users name: their addresses (`names`), and which may be connected to (`addresses`, pure)."""
