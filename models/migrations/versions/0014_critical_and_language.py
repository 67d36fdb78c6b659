"""preferences: whether what is critical overrides them

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


def downgrade() -> None:
    op.drop_column("notification", "critical_overrides")
