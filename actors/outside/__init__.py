"""Servers that users name: which hosts and addresses of them may be connected to (`addresses`). Pure."""
