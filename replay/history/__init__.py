"""Looking back: folds, keyframes, and every question about a state in the past. Pure but for reading.

Exports: folds and keyframes, timelines of a subject, causes, differences, conditions, forks, and histories
as files (`exported`).
"""
