"""What this machine's accelerator does with the suite: `check-device`.

Sections in the order of their importance, each with its seconds. One that breaks says so in a line,
and the next one runs.
"""

from nos_repro.bench.device_check.sections import SECTIONS, check_device

__all__ = ["SECTIONS", "check_device"]
