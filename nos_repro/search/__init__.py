"""The search for update rules: a controller writes them, children are trained by them (sec. 3)."""
