"""evidence: to which nodes pushes went, and what was found neither on its way nor at an end

Revision: 0015, after 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pushed",
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("notification_id", sa.Uuid(), nullable=True),
        sa.Column("users", sa.Integer(), nullable=False),
        sa.Column("stretches", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("dispatched_at", "priority", "node"),
    )
    # To compress it would cost three times as much as all the rest of writing it.
    op.execute("ALTER TABLE pushed ALTER COLUMN stretches SET STORAGE EXTERNAL")
    op.create_index(
        "pushed_broadcast", "pushed", ["notification_id"], postgresql_where=sa.text("notification_id IS NOT NULL")
    )
    op.create_table(
        "unaccounted",
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("notification_id"),
    )


def downgrade() -> None:
    op.drop_table("unaccounted")
    op.drop_table("pushed")
