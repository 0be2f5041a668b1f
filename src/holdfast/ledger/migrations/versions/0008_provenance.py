"""What is in a run besides what its user wants: somebody else's words, and what must not get away."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("runs", sa.Column("labels", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("runs", "labels")
