"""The dialect of FireMail, whose web front end is served unchanged: over its WebSocket and its HTTP.

Exports: its tongue on the WebSocket (`interpreter`), what it asks over HTTP (`routes`), and the queries that
answer in its form (`queries`). All names, forms and texts of the front end are here and nowhere else.
"""
