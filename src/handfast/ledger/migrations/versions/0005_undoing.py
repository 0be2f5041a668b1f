"""How far undoing a run has come: nothing, everything, or what came after an operation."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("runs", sa.Column("undoing", sa.String(36), nullable=False, server_default=""))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("runs", "undoing")
