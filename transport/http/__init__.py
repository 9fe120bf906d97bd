"""The service over plain HTTP, on its own port and inside an ASGI application (PROTOCOL 11, docs/http.md).

`api` answers a request, whichever parser read it. `native` parses requests of the service's own port with
h11, and `asgi` gets them from another server. Readers of server-sent events are connections like those of
WebSockets.
"""
