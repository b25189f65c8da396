"""What an arena shows: its table, figure and comparisons, from its records alone."""
