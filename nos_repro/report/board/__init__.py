"""A board: optimizers compared over several studies, each one task."""
