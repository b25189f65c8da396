"""Is PPO more sample efficient than REINFORCE, as 002 says (sec. 3.2), and TRPO (000)?

Neither paper shows the comparison. Here it is made where the best rule is known and a sample costs
nothing: a reward without training (`task`), each algorithm with a step size of its own (`runs`),
the samples until it is nearly always right, and a test declared beforehand (`verdict`).

    python -m nos_repro.bench.sample_efficiency

makes what has no record yet and writes the table and the figure. It is none of `bench`'s ratios,
for it says nothing of speed, and takes half an hour.
"""
