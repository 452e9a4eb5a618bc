"""Studies: grids of evaluations, resumable, shared out over processes and machines."""
