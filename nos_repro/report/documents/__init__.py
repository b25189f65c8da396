"""What the reading verbs print with `--format json`: documents of one versioned schema.

`schema.json` describes every kind; pages embed the same documents.
"""
