"""Ways to act from outside: clients, a browser, child processes, recorded conversations."""
