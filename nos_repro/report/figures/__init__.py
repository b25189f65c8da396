"""The kinds of figures that a study may draw beside its table, one file per kind."""
