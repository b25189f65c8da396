"""The optional packages: the optimizers need torch alone, everything else comes by extras."""

from __future__ import annotations

# fmt: off
EXTRA_OF = {
    # module:             extra of pyproject.toml that brings it
    "PIL":                "suite",
    "jaxtyping":          "suite",
    "lightning_fabric":   "suite",
    "lightning_utilities":"suite",
    "numpy":              "suite",
    "omegaconf":          "suite",
    "orjson":             "suite",
    "pytorch_lightning":  "suite",
    "rich":               "suite",
    "torchvision":        "suite",
    "yaml":               "suite",
    "jinja2":             "report",
    "markupsafe":         "report",
    "matplotlib":         "report",
    "num2words":          "text",
    "sacrebleu":          "text",
    "sentencepiece":      "text",
    "torchtext":          "text",
    "submitit":           "slurm",
    "pydantic":           "wandb",
    "wandb":              "wandb",
    "wandb_workspaces":   "wandb",
    "simplejpeg":         "imagenet",
}
# fmt: on


def installed_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    import importlib.metadata  # a tenth of what a verb that reads takes in all

    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def advice(error: ModuleNotFoundError) -> str | None:
    """One line that says which extra to install; None if no extra brings the missing module."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRA_OF:
        return None
    return (
        f"this needs the package {module}: install nos-repro with its extra '{EXTRA_OF[module]}'"
        f' (in a checkout: pip install ".[{EXTRA_OF[module]}]")'
    )
