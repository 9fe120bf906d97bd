"""`huahuo import-firemail`: what another service's database holds, brought into a data directory.

Exports: what its tables are (`firemail`), the import itself (`importing`), and its report (`report`).
"""
