"""The kinds of figures that a study may draw beside its table: one file a kind."""
