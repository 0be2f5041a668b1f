"""Alembic's entry: runs the scripts on the connection that `handfast.ledger.migrate` holds."""

from alembic import context

from handfast.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
