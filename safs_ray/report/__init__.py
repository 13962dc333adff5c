"""What a run is worth and how it came about: its table, its page, and runs side by side."""
