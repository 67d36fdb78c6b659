"""types: the catalogue, who must register them, what a notification says in each language

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
NO = sa.text("false")
YES = sa.text("true")


def upgrade() -> None:
    op.create_table(
        "type",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("body", sa.JSON(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name"),
    )
    op.create_index("type_updated", "type", ["updated_at"])
    # Defaults are the same for all rows that exist, so none of them is written.
    op.add_column("tenant", sa.Column("require_types", sa.Boolean(), server_default=NO, nullable=False))
    op.create_index("tenant_require_types", "tenant", ["id"], postgresql_where=sa.text("require_types"))
    op.add_column("notification", sa.Column("mutable", sa.Boolean(), server_default=YES, nullable=False))
    op.add_column(
        "notification", sa.Column("texts", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True)
    )
    op.add_column("delivery", sa.Column("locale", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("delivery", "locale")
    op.drop_column("notification", "texts")
    op.drop_column("notification", "mutable")
    op.drop_index("tenant_require_types", table_name="tenant")
    op.drop_column("tenant", "require_types")
    op.drop_table("type")
