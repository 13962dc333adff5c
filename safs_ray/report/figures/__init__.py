"""The figures of one run: each module draws what it is named after, from the run's record."""
