"""The log above its engines: one writer, group commits, reading, the hash chain, sealed secrets.

Exports: `StoreLog` (`log`), the writer and its queue, the port of storage engines (`storage_port`), what a
commit writes (`changes`), where a log stands (`place`), the chain, secrets at rest (`seal`), receipts of
pruned events.
"""
