"""overtook: how many older notifications of its collapse key came after a delivery

Revision: 0020, after 0019. No row is written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("delivery", sa.Column("overtook", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("delivery", "overtook")
