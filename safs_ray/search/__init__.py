"""The search for the best assignment: strategies that propose, evaluations that score, chains that join both."""
