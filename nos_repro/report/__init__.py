"""Tables, figures and status, made of records alone."""
