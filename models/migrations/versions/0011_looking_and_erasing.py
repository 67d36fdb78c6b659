"""looking and erasing: the list of a tenant's notifications, and all that stands under a user's name

Revision: 0011, after 0010. Its indexes are built beside running traffic.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

INDEXES = {
    "notification_listed": ("notification", ["tenant", "created_at", "id"]),
    "topic_subscription_user": ("topic_subscription", ["tenant", "user_id", "topic"]),
    "suppression_user": ("suppression", ["user_id", "notification_id"]),
}


def upgrade() -> None:
    op.execute(
        "ALTER TABLE revocation ADD COLUMN IF NOT EXISTS erased_at timestamptz"
    )  # interrupted below, it is there
    with op.get_context().autocommit_block():
        for name, (table, columns) in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # half built by a migration that was interrupted
            op.create_index(name, table, columns, postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (table, _) in INDEXES.items():
            op.drop_index(name, table, postgresql_concurrently=True)
    op.drop_column("revocation", "erased_at")
