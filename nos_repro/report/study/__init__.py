"""A study's report: its table, figures, verdicts and status, and why a cell says what it says."""
