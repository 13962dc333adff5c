"""What docs/extending.md shows."""
