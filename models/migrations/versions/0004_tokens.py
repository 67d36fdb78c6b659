"""tokens: revocations, secrets in rotation, key sets

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revocation",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "user_id"),
    )
    op.create_index("revocation_at", "revocation", ["revoked_at"])
    op.add_column("tenant", sa.Column("previous_secret", sa.Text(), nullable=True))
    op.add_column("tenant", sa.Column("jwks_url", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("tenant", "jwks_url")
    op.drop_column("tenant", "previous_secret")
    op.drop_table("revocation")
