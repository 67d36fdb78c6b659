"""audiences: who is subscribed to topics, how far a broadcast is, since when an inbox exists

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "topic_subscription",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("subscribed_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "topic", "user_id"),
    )
    op.create_table(
        "broadcast",
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("reached", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("notification_id"),
        postgresql_with={"fillfactor": 50},
    )
    # The default is the same for all rows that exist, so none of them is written.
    op.add_column("inbox", sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False))


def downgrade() -> None:
    op.drop_column("inbox", "created_at")
    op.drop_table("broadcast")
    op.drop_table("topic_subscription")
