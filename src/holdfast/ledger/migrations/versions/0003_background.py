"""Receipts: what the model got for a call whose work goes on in the background."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("operations", sa.Column("receipt_seq", sa.Integer))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("operations", "receipt_seq")
