"""`python -m nos_repro.bench.sample_efficiency`: completes the records, writes table and figure."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from nos_repro.bench.sample_efficiency.claim import FOLDER
from nos_repro.bench.sample_efficiency.report import files
from nos_repro.bench.sample_efficiency.runs import complete
from nos_repro.experiments.files import write_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR")
    folder = parser.parse_args().results / FOLDER
    torch.set_num_threads(1)
    for name, data in files(complete(folder / "runs.jsonl")).items():
        write_atomically(folder / name, data)
        print(f"wrote {folder / name}")


if __name__ == "__main__":
    main()
