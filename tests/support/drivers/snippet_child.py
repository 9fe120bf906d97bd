"""Runs one block of a document: `python -m tests.support.drivers.snippet_child PAGE NAME URL TOKEN`."""

import asyncio
import sys

from tests.support.drivers.snippets import run, snippet

page, name, url, token = sys.argv[1:]
asyncio.run(run(snippet(page, name), {"url": url, "token": token}))
