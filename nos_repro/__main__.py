"""`python -m nos_repro`: the same command as `nos-repro`."""

import sys

from nos_repro.cli import main

if __name__ == "__main__":
    sys.exit(main())
