"""lists of deep inboxes

Revision: 0002, after 0001. Built beside running traffic: nothing waits for it but the migration itself.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXES = {
    "delivery_archived": (["inbox_id", "seq"], "archived_at IS NOT NULL AND deleted_at IS NULL"),
    "delivery_active": (
        ["inbox_id", "seq", "archived_at", "domain", "type", "priority"],
        "archived_at IS NULL AND deleted_at IS NULL",
    ),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (columns, where) in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # half built by a migration that was interrupted
            op.create_index(
                name,
                "delivery",
                columns,
                postgresql_where=sa.text(where),
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.drop_index(name, "delivery", postgresql_concurrently=True)
