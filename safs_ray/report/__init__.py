"""What a run is worth: its table, from results.json."""
