"""All SQL of the journey, a module per stage: `ingest`, `dispatch`, `inbox`, `receipts`, `recover`; and `keys`.

Statements are set-based: a JSON array goes in, one CTE chain works on it. Parameters are psycopg's named ones.
"""
