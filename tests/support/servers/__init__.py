"""Real servers and proxies on loopback, each stopped with its test."""
