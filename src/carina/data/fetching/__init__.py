"""Public sets, fetched whole or not at all."""
