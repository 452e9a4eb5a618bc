"""Many episodes: on all cores, in pairs, and as tables."""
