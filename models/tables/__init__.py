"""The tables, as SQLModel classes: what Alembic compares with and what documents the schema.

`notification` is written once and never changed; `delivery` is thin and is the part that changes. No foreign key
stands on the hot path: what one transaction writes together is consistent by construction.
"""

from models.tables import digests, evidence, inboxes, live, notifications, tenants

__all__ = ["digests", "evidence", "inboxes", "live", "notifications", "tenants"]
