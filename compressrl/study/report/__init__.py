"""The report of a study: one self-contained HTML page, Markdown, and a CSV file for every table."""
