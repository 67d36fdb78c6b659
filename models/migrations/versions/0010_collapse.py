"""collapse: what an unread delivery has in common with those whose place it takes

Revision: 0010, after 0009. Its index is built beside running traffic.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("delivery", sa.Column("collapse_key", sa.Text(), nullable=True))
    op.add_column("delivery", sa.Column("collapsed", sa.Integer(), server_default=sa.text("0"), nullable=False))
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS delivery_collapse")  # half built by one that was interrupted
        op.create_index(
            "delivery_collapse",
            "delivery",
            ["inbox_id", "type", "collapse_key"],
            postgresql_where=sa.text(
                "collapse_key IS NOT NULL AND read_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL"
            ),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index("delivery_collapse", table_name="delivery")
    op.drop_column("delivery", "collapsed")
    op.drop_column("delivery", "collapse_key")
