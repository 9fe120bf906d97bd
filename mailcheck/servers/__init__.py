"""Mail servers as data: which hosts are allowed, the endpoints of providers, what can go wrong. Pure.

Exports: rules for hosts and ports (`host_rules`), `providers`, the faults.
"""
