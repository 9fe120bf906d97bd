"""Room on the disk: how much is free, what each user may take, what is removed by itself, and backups.

Exports: the stage of a nearly full disk (`stage`, `room`), and what keeps it watched (`looking`).
"""
