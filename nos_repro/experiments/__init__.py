"""Studies, trials and records: from a YAML file to rows of results."""
