"""What Alembic runs: on the connection that ``carina.serving.upgrades`` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from carina.serving.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table by making it anew
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
