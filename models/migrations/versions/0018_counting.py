"""counting: what is cancelled for very many is counted after it was decided

Revision: 0018, after 0017. What older processes write, and what they wrote, is counted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("withdrawal", sa.Column("counted", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("withdrawal", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS withdrawal_uncounted")  # half built by one that was interrupted
        op.create_index(
            "withdrawal_uncounted",
            "withdrawal",
            ["at"],
            postgresql_where=sa.text("NOT counted"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index("withdrawal_uncounted", table_name="withdrawal")
    op.drop_column("withdrawal", "due_at")
    op.drop_column("withdrawal", "counted")
