"""Where a run was asked for from, and calls and time at work in budgets."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("runs", sa.Column("called_from", sa.Text, nullable=False, server_default=""))
    for name in ("calls", "work_ms"):
        op.add_column("budgets", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    """Remove them."""
    for name in ("work_ms", "calls"):
        op.drop_column("budgets", name)
    op.drop_column("runs", "called_from")
