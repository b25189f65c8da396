"""Two rows of a study against each other: seeds are added until a test decides."""
