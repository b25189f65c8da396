"""`python -m nos_repro.search.efficiency`: trains the runs that have no record yet."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from nos_repro.search.efficiency.learn import complete
from nos_repro.search.efficiency.runs import records_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR")
    path = records_file(parser.parse_args().results)
    torch.set_num_threads(1)
    records = complete(path)
    print(f"{len(records)} runs in {path}; `report --all --write` writes their table and figure")


if __name__ == "__main__":
    main()
