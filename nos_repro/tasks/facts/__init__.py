"""The facts about each task that ships: its settings, metrics and name.

Nothing here imports torch; the models are in `nos_repro.tasks`. A task from outside is one class,
which states its facts itself.
"""
