"""Accounts that the service does not keep: an issuer's key set (JWKS), or the application's own function.

Exports: `accounts.Accounts`, which asks the shared secret, the key set and the application in this order.
"""
