"""The figures of the page: one module each, from the pooled cells to drawing, text and table."""
