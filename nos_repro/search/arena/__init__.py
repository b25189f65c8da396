"""The arena: search algorithms compared over a table of rules, where a child costs a look-up.

Hundreds of seeded searches take minutes, since `search.table` has trained every rule of a space
already. A search spends its budget on *children*, the distinct rules that it would have to train;
a rule that is known or refused is free, as in a real search. It is rewarded by one seed of the
table's children, and what it found is judged by the mean of the others.

Every algorithm is tuned alike, on another table: `tuning` in its file. `nos-repro arena` plays what
has no record yet, `report --all --write` writes its table and figure, and it decides two claims.
"""
