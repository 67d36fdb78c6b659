"""when it was acked: from which number on, and at what time, an inbox's last ack was

Revision: 0016, after 0015. Nothing is known of acks from before; no row is written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inbox", sa.Column("acked_from", sa.BigInteger(), nullable=True))
    op.add_column("inbox", sa.Column("acked_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("inbox", "acked_at")
    op.drop_column("inbox", "acked_from")
