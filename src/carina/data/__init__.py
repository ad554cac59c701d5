"""Many folders in, one catalogue out."""
