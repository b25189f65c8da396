"""The data sets: where they are looked for, how they are decoded once, and how batches are cut.

One file a data set; `find_dataset` finds every module of this package by itself.
"""

from nos_repro.data.images import Dataset, ImageSet, find_dataset, list_datasets, register_dataset
from nos_repro.data.paths import data_folder

__all__ = [
    "Dataset",
    "ImageSet",
    "data_folder",
    "find_dataset",
    "list_datasets",
    "register_dataset",
]
