"""What the papers claim in words, tested at every scale that has records."""
