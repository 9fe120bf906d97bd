"""Cursors over the log as it grows: signal, then read.

Exports: `Feed` (`feed`), its bounded cache of the newest events (`tail`), reads that several subscribers
share (`sharing`).
"""
