"""What Datasette shows of the audit index: facets, full-text search, and ready-made queries."""

from typing import Any, Final

_SELECT = (
    "SELECT position, timestamp, stream, seq, type, principal, entity, command_id, cause, data FROM event"
)

METADATA: Final[dict[str, Any]] = {
    "title": "huahuo audit",
    "description": "Who did what, when and why. Every question is itself recorded on the stream `audit`.",
    "allow": {"id": "root"},
    "databases": {
        "audit": {
            "tables": {
                "event": {
                    "description": "A row an event. Put spaces between Chinese characters in a search.",
                    "facets": ["type", "stream", "principal"],
                    "sort_desc": "position",
                    "size": 50,
                    "fts_table": "event_fts",
                    "fts_pk": "position",
                    "hidden": False,
                },
                "meta": {"hidden": True},
                "stretch": {"hidden": True},
            },
            "queries": {
                "about_entity": {
                    "title": "All about one entity",
                    "sql": f"{_SELECT} WHERE entity = :entity ORDER BY position DESC LIMIT 500",
                },
                "by_principal": {
                    "title": "All that somebody did",
                    "sql": f"{_SELECT} WHERE principal = :principal ORDER BY position DESC LIMIT 500",
                },
                "by_command": {
                    "title": "What one command caused",
                    "sql": f"{_SELECT} WHERE command_id = :command_id ORDER BY position",
                },
                "consequences": {
                    "title": "What one event led to, over all its consequences",
                    "sql": (
                        "WITH RECURSIVE led(position) AS (SELECT CAST(:position AS INTEGER) UNION"  # noqa: S608  constants
                        " SELECT event.position FROM event JOIN led ON event.cause = led.position"
                        " WHERE led.position > 0 LIMIT 1000)"
                        f" {_SELECT} JOIN led USING (position) ORDER BY position"
                    ),
                },
                "audits": {
                    "title": "Who looked",
                    "sql": (
                        "SELECT position, timestamp, principal, json_extract(data, '$.action') AS action,"
                        " json_extract(data, '$.what') AS what FROM event"
                        " WHERE stream = 'audit' AND type = 'audit_recorded' ORDER BY position DESC LIMIT 500"
                    ),
                },
            },
        }
    },
}
