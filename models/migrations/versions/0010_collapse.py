"""collapse: what an unread delivery has in common with those whose place it takes

Revision: 0010, after 0009
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
    # Nothing has a key yet, so it is empty, and needs no time.
    op.create_index(
        "delivery_collapse",
        "delivery",
        ["inbox_id", "type", "collapse_key"],
        postgresql_where=sa.text(
            "collapse_key IS NOT NULL AND read_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL"
        ),
    )


def downgrade() -> None:
    op.drop_index("delivery_collapse", table_name="delivery")
    op.drop_column("delivery", "collapsed")
    op.drop_column("delivery", "collapse_key")
