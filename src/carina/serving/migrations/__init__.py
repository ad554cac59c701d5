"""The schema's history, in Alembic's words; run by ``carina.serving.upgrades``, never by hand."""
