"""A study of six one-second trials whose schedule, noise and drops draw random numbers."""

from typing import Any

TINY: dict[str, Any] = {
    "study": "tiny",
    "source": "002 Table 0",
    "claim": "small enough for a test",
    "task": {
        "name": "convnet",
        "data": "digits",
        "batch_size": 20,
        "train_images": 400,
        "validation_images": 100,
        "augment": True,
    },
    "training": {"epochs": 3},
    "schedule": "noisy_linear_cosine",
    "sweep": {"lr": [0.02, 0.05]},
    "selection": {"repeats": 1},
    "columns": {"best_test": "Best Test"},
    "rows": {
        "PowerSign": {"optimizer": "powersign-ld"},
        "drops": {"optimizer": "rule: drop(g, 0.3) + noise*g"},
    },
    "scales": {"smoke": {}},
}
