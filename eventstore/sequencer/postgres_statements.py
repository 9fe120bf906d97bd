"""The statements of an ordered log in PostgreSQL. `{s}` stands for its schema. Pure."""

INSERT = """
WITH place AS (UPDATE {s}.head SET last = last + cardinality($1::text[])
               RETURNING last - cardinality($1::text[]) AS base)
INSERT INTO {s}.proposals (position, id, body)
SELECT base + n, id, body FROM place, unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS new(id, body, n)
RETURNING position
"""
KNOWN = "SELECT position FROM {s}.proposals WHERE id = $1"
LAST = "UPDATE {s}.head SET last = last RETURNING last"
PAGE = """
SELECT head.first, head.last, page.position, page.body
FROM {s}.head LEFT JOIN LATERAL (
    SELECT position, body FROM (
        SELECT position, body, octet_length(body) AS size,
               sum(octet_length(body)) OVER (ORDER BY position) AS total
        FROM (SELECT position, body FROM {s}.proposals WHERE position > $1 AND position <= head.last
              ORDER BY position LIMIT $2) AS next
    ) AS sums WHERE total - size < $3
) AS page ON true ORDER BY page.position
"""
TRIM = """
WITH edge AS (UPDATE {s}.head SET first = greatest(first, least($1, last + 1)) RETURNING first)
DELETE FROM {s}.proposals USING edge WHERE position < edge.first
"""
