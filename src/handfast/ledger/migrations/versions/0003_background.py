"""Receipts of work in the background, branches of runs that were reset to think again, counts of what does not fit."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("runs", sa.Column("branches", sa.Text, nullable=False, server_default="[]"))
    op.add_column("operations", sa.Column("receipt_seq", sa.Integer))
    op.add_column("operations", sa.Column("left_by", sa.Integer, nullable=False, server_default="0"))
    op.drop_index("operations_of_run", "operations")
    op.create_index("operations_of_run", "operations", ["run_id", "left_by", "turn", "idx"], unique=True)
    op.create_table(
        "drift",
        sa.Column("tool", sa.String(64), primary_key=True),
        sa.Column("version", sa.String(32), primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("invalid", sa.Integer, nullable=False),
        sa.Column("refused", sa.Integer, nullable=False),
        sa.Column("unknown", sa.Integer, nullable=False),
        sa.Column("mismatched", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("drift")
    op.drop_index("operations_of_run", "operations")
    op.create_index("operations_of_run", "operations", ["run_id", "turn", "idx"], unique=True)
    op.drop_column("operations", "left_by")
    op.drop_column("operations", "receipt_seq")
    op.drop_column("runs", "branches")
