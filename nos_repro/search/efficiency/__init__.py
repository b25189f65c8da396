"""Is PPO more sample efficient than REINFORCE, as 002 says (sec. 3.2), and TRPO (000)?

Neither paper shows the comparison. Here it is made where the best rule is known and a sample costs
nothing: a reward without training (`task`), each algorithm with a step size of its own (`runs`),
and the samples until it is nearly always right. The test that decides was declared beforehand
(`report.search.fewer_samples`).

    python -m nos_repro.search.efficiency

trains what has no record yet, for half an hour in all; `report --all --write` writes its table and
figure, and two claims are decided by it.
"""
