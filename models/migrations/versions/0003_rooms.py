"""rooms

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "room",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("floor_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("keep_events", sa.Integer(), nullable=False),
        sa.Column("keep_s", sa.Integer(), nullable=False),
        sa.Column("trim_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("floor_seq <= last_seq", name="room_order"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 128", name="room_name_length"),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("room_name", "room", ["tenant", "name"], unique=True)
    op.create_index("room_trim", "room", ["trim_at"], postgresql_where=sa.text("trim_at IS NOT NULL"))
    op.create_table(
        "room_event",
        sa.Column("room_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("body_hash", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("room_id", "seq"),
    )
    op.create_index(
        "room_event_idempotency",
        "room_event",
        ["room_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("room_event")
    op.drop_table("room")
