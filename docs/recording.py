"""Makes docs/recording.svg, README's picture: `python -m docs.recording` runs the commands below
and draws what they print. The drawing loads no font or other file from somebody else's server.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "recording.svg"
COLUMNS = 120  # as where there is no terminal
COMMANDS = (
    'nos-repro run table2 --scale smoke --rows "*(cosine)"',
    "nos-repro claims search-beats-baselines",
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "results", Path(folder, "results"))
        shutil.rmtree(Path(folder, "results", "table2", "smoke"), ignore_errors=True)
        printed = [(command, output(command, folder)) for command in COMMANDS]
    PICTURE.write_text(drawing(printed), encoding="utf-8")


def output(command: str, folder: str) -> str:
    """What a command prints in a terminal of that many columns."""
    done = subprocess.run(
        [sys.executable, "-m", "nos_repro", *shlex.split(command)[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(COLUMNS)},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.rstrip()


def drawing(printed: list[tuple[str, str]]) -> str:
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        for command, text in printed:
            console.print(Text(f"$ {command}", "bold green"))
            console.print(Text(f"{text}\n"))
    without_fonts = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="nos_repro", theme=MONOKAI, code_format=without_fonts)
    return re.sub(r"terminal-\d+", "terminal", svg) + "\n"


if __name__ == "__main__":
    main()
