"""Looking back: folds, keyframes, and questions about past states. Pure except for reading the log.

Exports: folds and keyframes, timelines of a subject, causes, differences, conditions, forks, and histories
as files (`exported`).
"""
