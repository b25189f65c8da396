"""The update-rule language of sec. 3.1 and 4.1: primitives, tree, text and token forms."""
