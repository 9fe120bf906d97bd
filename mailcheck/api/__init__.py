"""The domain's commands and queries as the transport calls them.

Exports: their fields (`params`) and their handlers.
"""
