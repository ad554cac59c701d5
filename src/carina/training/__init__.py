"""Catalogue in, bundle out: the only room that knows torch."""
