"""All SQL of the journey, a module per stage: `ingest`, `dispatch`, `inbox`, `receipts`, `recover`; and `keys`.

Beside it: `listing` and `explain`, for whoever asks what became of something; `erase`; and `audit`, which reads it all.

Statements are set-based: a JSON array goes in, one CTE chain works on it. Parameters are psycopg's named ones.
"""
