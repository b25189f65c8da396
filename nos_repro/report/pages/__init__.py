"""The HTML pages: from what the records say to plain data, from that to self-contained files."""
