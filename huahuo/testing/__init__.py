"""Tests of applications: decisions without a service, and the whole service in virtual time.

Exports: `given` (`decisions`), and the fixture `app` of the pytest plug-in (`pytest_plugin`, `world`).
"""

from huahuo.testing.decisions import Given, given

__all__ = ["Given", "given"]
