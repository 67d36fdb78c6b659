"""digests: what gathers for a user until it arrives as one

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("notification", sa.Column("digest_every", sa.Text(), nullable=True))
    op.add_column("notification", sa.Column("digest_key", sa.Text(), nullable=True))
    op.create_table(
        "digest",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("notification_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("notification_id IS NULL OR closed_at IS NOT NULL", name="digest_arrives_when_closed"),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "digest_open",
        "digest",
        ["tenant", "user_id", "type", "key"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index("digest_due", "digest", ["closes_at"], postgresql_where=sa.text("closed_at IS NULL"))
    op.create_index("digest_user", "digest", ["tenant", "user_id", "id"])
    op.create_table(
        "digest_entry",
        sa.Column("digest_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("digest_id", "position"),
    )
    op.create_index("digest_entry_notification", "digest_entry", ["notification_id", "digest_id"])


def downgrade() -> None:
    op.drop_table("digest_entry")
    op.drop_table("digest")
    op.drop_column("notification", "digest_key")
    op.drop_column("notification", "digest_every")
