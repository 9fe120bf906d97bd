"""Invariants that a log alone can show, judged on a user's own log by `huahuo doctor --check`.

Exports: the rules of the log itself (`log_rules`), of effects and timers (`work_rules`), and the walk over a
log that asks them and those of plug-ins (`walk`).
"""
