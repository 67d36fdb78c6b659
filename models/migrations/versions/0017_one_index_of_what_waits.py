"""one index of what waits: whatever is unseen is unread, so one index finds both, and each delivery writes one less

Revision: 0017, after 0016. Built beside running traffic; until it is there, the old ones are.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_SEEN = "delivery_read_was_seen"
_KEPT = "archived_at IS NULL AND deleted_at IS NULL"
_OLD = {"delivery_unread": f"read_at IS NULL AND {_KEPT}", "delivery_unseen": f"seen_at IS NULL AND {_KEPT}"}
_NEW = {"delivery_waiting": (["inbox_id", "seq", "archived_at", "seen_at"], f"read_at IS NULL AND {_KEPT}")}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (columns, where) in _NEW.items():
            _build(name, columns, where)
        for name in _OLD:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.execute(f"ALTER TABLE delivery DROP CONSTRAINT IF EXISTS {_SEEN}")
    op.execute(f"ALTER TABLE delivery ADD CONSTRAINT {_SEEN} CHECK (read_at IS NULL OR seen_at IS NOT NULL) NOT VALID")
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE delivery VALIDATE CONSTRAINT {_SEEN}")  # nobody waits while it looks through the table


def downgrade() -> None:
    op.drop_constraint(_SEEN, "delivery", type_="check")
    with op.get_context().autocommit_block():
        for name, where in _OLD.items():
            _build(name, ["inbox_id", "seq"], where)
        for name in _NEW:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _build(name: str, columns: list[str], where: str) -> None:
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # half built by a migration that was interrupted
    op.create_index(name, "delivery", columns, postgresql_where=sa.text(where), postgresql_concurrently=True)
