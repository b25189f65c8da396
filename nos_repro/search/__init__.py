"""The search for update rules: a controller writes them, children train with them (sec. 3)."""
