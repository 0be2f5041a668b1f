"""What all workers share: circuits, notices, windows, kept results, served calls; and the contracts a run began with."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.add_column("runs", sa.Column("contracts", sa.Text, nullable=False, server_default="{}"))
    op.create_table(
        "circuits",
        sa.Column("upstream", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(255), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("successes", sa.Integer, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("probe_until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "notices",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("subject", sa.String(200), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
    )
    op.create_table(
        "windows",
        sa.Column("name", sa.String(600), primary_key=True),
        sa.Column("taken", sa.Text, nullable=False),
    )
    op.create_table(
        "generations",
        sa.Column("name", sa.String(400), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
    )
    op.create_table(
        "cached",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(400), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("kept_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("cached_name", "cached", ["name", "kept_at"])
    op.create_index("cached_expires_at", "cached", ["expires_at"])
    op.create_table(
        "served",
        sa.Column("tool", sa.String(64), primary_key=True),
        sa.Column("ns", sa.String(255), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("began_at", sa.BigInteger, nullable=False),
    )
