"""Followers: functions of an application that get every event of some kinds, at least once and in order.

Exports: what a follower is and what it is given (`spec`), where it stands and what comes next (`course`),
what the log's tables hold of it (`record`), the calls of its function (`calls`), one follower at work
(`follower`), and all of them (`followers`).
"""
