"""A file in, pixels out: shared by training and scoring, so that both see the same film."""
