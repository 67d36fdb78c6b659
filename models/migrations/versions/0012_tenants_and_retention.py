"""tenants and retention: limits of a tenant's own, and what is removed when it is old

Revision: 0012, after 0011. Its index is built beside running traffic.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
INDEXES = {
    "delivery_deleted": ("delivery", ["inbox_id", "seq"], "deleted_at IS NOT NULL"),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (table, columns, where) in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # half built by a migration that was interrupted
            op.create_index(
                name,
                table,
                columns,
                postgresql_where=sa.text(where),
                postgresql_concurrently=True,
            )
    op.add_column("tenant", sa.Column("ingest_per_s", sa.Double(), nullable=True))
    op.add_column("tenant", sa.Column("retention", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.create_table(
        "retention_round",
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("what"),
    )


def downgrade() -> None:
    op.drop_table("retention_round")
    op.drop_column("tenant", "retention")
    op.drop_column("tenant", "ingest_per_s")
    with op.get_context().autocommit_block():
        for name, (table, _, _) in INDEXES.items():
            op.drop_index(name, table, postgresql_concurrently=True)
