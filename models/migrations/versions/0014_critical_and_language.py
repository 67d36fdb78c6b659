"""preferences: whether what is critical overrides them, and the language that a user last came with

Revision: 0014, after 0013. Defaults are the same for all rows that exist, so none of them is written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "notification", sa.Column("critical_overrides", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.add_column("preference", sa.Column("token_locale", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("preference", "token_locale")
    op.drop_column("notification", "critical_overrides")
