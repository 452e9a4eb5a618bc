"""Reports as pictures (matplotlib)."""
