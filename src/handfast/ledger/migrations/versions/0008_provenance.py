"""What is in a run besides what its user wants, and what models may use in a span of time."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("runs", sa.Column("labels", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "budgets",
        sa.Column("name", sa.String(600), primary_key=True),
        sa.Column("turns", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_micros", sa.BigInteger, nullable=False),
        sa.Column("holds", sa.Text, nullable=False),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
    )
    op.create_index("budgets_ends_at", "budgets", ["ends_at"])


def downgrade() -> None:
    """Remove them."""
    op.drop_table("budgets")
    op.drop_column("runs", "labels")
