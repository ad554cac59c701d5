"""Predictions and truth in, what may be claimed out."""
