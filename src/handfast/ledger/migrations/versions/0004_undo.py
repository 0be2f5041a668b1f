"""What undoes a call: the effect class of its compensation, the operations that undo others, and where undoing stands."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    for name, length in (("undo", 16), ("undoes", 36), ("undoing", 16)):
        op.add_column("operations", sa.Column(name, sa.String(length), nullable=False, server_default=""))


def downgrade() -> None:
    """Remove them."""
    for name in ("undoing", "undoes", "undo"):
        op.drop_column("operations", name)
