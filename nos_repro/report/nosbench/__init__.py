"""Tables of rules (NOS-Bench) as printed tables, and their data cards."""
