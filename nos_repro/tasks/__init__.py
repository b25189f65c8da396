"""What is trained: one file per task, which registers itself.

Your own is `task: {name: my_package.my_task}`.
"""

from nos_repro.tasks.registry import TASKS

__all__ = ["TASKS"]
