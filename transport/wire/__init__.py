"""Sockets of clients: frames are read and written past the library, the lobby, the site."""
