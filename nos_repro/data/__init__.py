"""The data sets: where they are looked for, how they are decoded once, and how batches are cut.

One file per data set, which registers itself; your own is `data: my_package.my_data`.
"""

from nos_repro.data.corpora import CORPORA
from nos_repro.data.images import IMAGES
from nos_repro.data.parallel import PARALLEL_TEXTS
from nos_repro.data.paths import data_folder
from nos_repro.data.trees import PHOTOGRAPHS

__all__ = ["CORPORA", "IMAGES", "PARALLEL_TEXTS", "PHOTOGRAPHS", "data_folder"]
