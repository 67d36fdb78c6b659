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


def downgrade() -> None:
    op.drop_column("withdrawal", "due_at")
    op.drop_column("withdrawal", "counted")
