"""Is PPO more sample efficient than REINFORCE, as 002 says (sec. 3.2), and TRPO (000)?

Neither paper shows the comparison. Here it is made where the best rule is known and samples cost
nothing: a reward without training (`task`), each algorithm with its own step size (`runs`), and a
count of the samples until it is nearly always right. The statistical test was declared beforehand
(`report.search.fewer_samples`).

    python -m nos_repro.search.efficiency

trains what has no record yet, about half an hour in all; `report --all --write` writes its table
and figure, and it decides two claims.
"""
