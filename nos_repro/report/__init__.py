"""Tables, figures, verdicts and pages, from records alone: of studies, searches and claims."""
