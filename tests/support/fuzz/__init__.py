"""Bytes from outside, thrown at everything that reads them: `make fuzz`, and a short run in the tests.

`targets` lists the readers with what they may answer, `mutate` makes the bytes, `__main__` is the command.
"""
