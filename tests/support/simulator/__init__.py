"""The whole service, unmodified, for hours of virtual time with every fault: see docs/testing.md.

`plan` draws a run from a seed, `world` plays it, `report` judges it, `__main__` is the command line.
"""
