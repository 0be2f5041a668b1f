"""Runs that other runs have begun: whose they are, what they may use, and what they have used besides their parent's own."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("runs", sa.Column("parent", sa.String(255), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("limits", sa.Text, nullable=False, server_default=""))
    op.add_column("runs", sa.Column("turns_below", sa.Integer, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("calls_below", sa.Integer, nullable=False, server_default="0"))
    op.create_index("runs_parent", "runs", ["parent"])
    op.create_index("runs_chain", "runs", ["chain_id"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index("runs_chain", "runs")
    op.drop_index("runs_parent", "runs")
    for column in ("calls_below", "turns_below", "limits", "parent"):
        op.drop_column("runs", column)
