"""What is trained. One file a task; `find_task` finds every module of this package by itself."""

from nos_repro.tasks.registry import TASKS, find_task, list_tasks, register_task

__all__ = ["TASKS", "find_task", "list_tasks", "register_task"]
