"""Receipts of work in the background, and the branches of runs that were reset to think again."""

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


def downgrade() -> None:
    """Remove them."""
    op.drop_index("operations_of_run", "operations")
    op.create_index("operations_of_run", "operations", ["run_id", "turn", "idx"], unique=True)
    op.drop_column("operations", "left_by")
    op.drop_column("operations", "receipt_seq")
    op.drop_column("runs", "branches")
