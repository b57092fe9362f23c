"""Tasks: behaviours posed as a choice of the next token, in pairs of prompts that differ in one thing."""

from sparse_circuits.tasks.examples import Examples
from sparse_circuits.tasks.loss import log_odds, task_loss, task_losses
from sparse_circuits.tasks.pair import ANY, Pair
from sparse_circuits.tasks.registry import TASKS, get_task
from sparse_circuits.tasks.task import SPLITS, Task, Template

__all__ = [
    "ANY",
    "SPLITS",
    "TASKS",
    "Examples",
    "Pair",
    "Task",
    "Template",
    "get_task",
    "log_odds",
    "task_loss",
    "task_losses",
]
