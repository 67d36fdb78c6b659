"""withdrawals: what was cancelled or has expired, and how far it is out of inboxes again

Revision: 0008, after 0007. Its index on deliveries is built beside running traffic.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
ZERO = sa.text("0")


def upgrade() -> None:
    op.create_table(
        "withdrawal",
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("cancelled", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("recalled", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("withdrawn", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("already_read", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("cursor", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.CheckConstraint("cause IN ('recalled', 'expired')", name="withdrawal_cause"),
        sa.PrimaryKeyConstraint("notification_id", "cause"),
    )
    op.create_table(
        "expiry",
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("notification_id"),
    )
    op.create_index("expiry_due", "expiry", ["expires_at"])
    op.add_column("outbox", sa.Column("withdraws", sa.Text(), nullable=True))
    op.execute(
        "INSERT INTO expiry (notification_id, priority, expires_at) "
        "SELECT id, priority, expires_at FROM notification n WHERE expires_at > now() OR expires_at IS NOT NULL "
        "AND EXISTS (SELECT 1 FROM delivery d WHERE d.notification_id = n.id AND d.deleted_at IS NULL)"
    )
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS delivery_of_inbox")  # half built by one that was interrupted
        op.create_index("delivery_of_inbox", "delivery", ["notification_id", "inbox_id"], postgresql_concurrently=True)
        op.drop_index("delivery_notification", table_name="delivery", postgresql_concurrently=True)
        op.execute("ALTER INDEX delivery_of_inbox RENAME TO delivery_notification")


def downgrade() -> None:
    op.drop_index("delivery_notification", table_name="delivery")
    op.create_index("delivery_notification", "delivery", ["notification_id"])
    op.execute("DELETE FROM outbox WHERE withdraws IS NOT NULL")
    op.drop_column("outbox", "withdraws")
    op.drop_table("expiry")
    op.drop_table("withdrawal")
