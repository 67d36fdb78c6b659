"""All SQL, a module per stage of the journey: `ingest`, `dispatch`, `inbox`, `receipts`, `recover`; others around it.

Beside it: `listing` and `explain`, for whoever asks what became of something; `erase`; and `audit`, which reads it all.

Statements are set-based: a JSON array goes in, one CTE chain works on it. Parameters are psycopg's named ones.
"""
