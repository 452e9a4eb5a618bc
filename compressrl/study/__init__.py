"""Studies: a grid of evaluations, resumable, with a report."""
