"""acks: when each number was acked, not only the last ones

Revision: 0019, after 0018. The columns of 0016 stay for now: socket nodes from before write to them until they end.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ack",
        sa.Column("inbox_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("since < seq", name="ack_order"),
        sa.PrimaryKeyConstraint("inbox_id", "seq"),
    )
    op.execute(
        "INSERT INTO ack (inbox_id, seq, since, at) SELECT id, acked_seq, acked_from, acked_at FROM inbox "
        "WHERE acked_at IS NOT NULL AND acked_from < acked_seq"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE inbox i SET acked_from = a.since, acked_at = a.at FROM ack a "
        "WHERE a.inbox_id = i.id AND a.seq = i.acked_seq"
    )
    op.drop_table("ack")
