"""A search's report: its history, its best rules, their confirmation, its figure and status."""
