"""A reproduction card: what was reproduced, for programs, for a README, and for an archive.

A folder of three files: `verdicts.json`, the document of `report --all --format json`; `badge.svg`,
its counts as a badge; and `ro-crate-metadata.json`, which makes the folder an RO-Crate 1.1
(https://www.researchobject.org/ro-crate/specification/1.1): a dataset that says which software made
it, from which paper, under which licence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError
from nos_repro.experiments.files import write_atomically
from nos_repro.extras import installed_versions
from nos_repro.report.collection import Collection
from nos_repro.report.documents.base import written
from nos_repro.report.documents.collection import collection_document

VERDICTS, BADGE, CRATE = "verdicts.json", "badge.svg", "ro-crate-metadata.json"
PAPER = "https://arxiv.org/abs/1709.07417"
LICENSE = "https://www.apache.org/licenses/LICENSE-2.0"
GOOD, MIXED, NONE = "#2e7d32", "#b26a00", "#5f6368"
LETTER, HEIGHT, MARGIN = 6.6, 20, 8
"""Pixels: the width of a letter of 11 px Verdana, on average; the badge's height; space around."""


def write_card(collection: Collection, folder: Path) -> Iterator[Path]:
    """Writes the card's files; yields their paths. Raises ConfigError for a folder that is none,
    and StoreError."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--card {folder}: is a file, not a folder")
    found = collection_document(collection)
    says, colour = _in_words(collection)
    files = {
        VERDICTS: (written(found) + "\n").encode(),
        BADGE: badge("reproduction", says, colour).encode(),
        CRATE: (written(crate(collection, says, datetime.now(UTC))) + "\n").encode(),
    }
    for name, data in files.items():
        write_atomically(folder / name, data)
        yield folder / name


def _in_words(collection: Collection) -> tuple[str, str]:
    """`0 of 412 cells reproduced; 20 of 49 claims hold, 3 do not`, and its colour. A claim counts
    once: it holds where it holds at every scale that decides."""
    cells = Counter(cell.verdict for found in collection.studies for cell in found.verdicts)
    good = cells["reproduced"] + cells["within tolerance"]
    decided = [
        {finding.verdict for finding in judged.findings} & {"holds", "does not hold"}
        for judged in collection.judged
    ]
    hold = sum(verdicts == {"holds"} for verdicts in decided)
    wrong = sum("does not hold" in verdicts for verdicts in decided)
    says = (
        f"{good} of {cells.total()} cells reproduced;"
        f" {hold} of {len(decided)} claims hold, {wrong} do not"
    )
    bad = cells["differs"] + wrong
    return says, NONE if good + hold + bad == 0 else MIXED if bad else GOOD


def badge(label: str, says: str, colour: str) -> str:
    """Two words side by side, as an SVG that needs no font but a common one."""
    left, right = (round(LETTER * len(text) + 2 * MARGIN) for text in (label, says))
    label, says = escape(label), escape(says)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{HEIGHT}" role="img" \
aria-label="{label}: {says}">
<title>{label}: {says}</title>
<rect width="{left}" height="{HEIGHT}" fill="#333"/>
<rect x="{left}" width="{right}" height="{HEIGHT}" fill="{colour}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{left / 2:g}" y="14">{label}</text>
<text x="{left + right / 2:g}" y="14">{says}</text>
</g>
</svg>
"""


def crate(collection: Collection, says: str, now: datetime) -> dict[str, Any]:
    """The RO-Crate's metadata, JSON-LD in its flattened form."""
    names = [f"{found.study.study}, scale {found.study.scale}" for found in collection.studies]
    names += [f"{found.asked.search}, scale {found.asked.scale}" for found in collection.searches]
    version = installed_versions(("nos-repro",)).get("nos-repro", "unknown")
    software = f"#nos-repro-{version}"

    def file(name: str, what: str, media: str) -> dict[str, Any]:
        return {"@id": name, "@type": "File", "name": what, "encodingFormat": media}

    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [
            {
                "@id": CRATE,
                "@type": "CreativeWork",
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
                "about": {"@id": "./"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": "A reproduction of Neural Optimizer Search with Reinforcement Learning",
                "description": f"Verdicts on the paper's numbers and claims: {says}. "
                f"From {'; '.join(names) or 'no records'}.",
                "datePublished": now.isoformat(timespec="seconds"),
                "license": {"@id": LICENSE},
                "isBasedOn": {"@id": PAPER},
                "mentions": {"@id": "#report"},
                "hasPart": [{"@id": VERDICTS}, {"@id": BADGE}],
            },
            file(VERDICTS, "Every table, verdict and claim", "application/json"),
            file(BADGE, "The counts of the verdicts as a badge", "image/svg+xml"),
            {
                "@id": "#report",
                "@type": "CreateAction",
                "name": "python -m nos_repro report --all --card",
                "endTime": now.isoformat(timespec="seconds"),
                "instrument": {"@id": software},
                "object": {"@id": PAPER},
                "result": [{"@id": VERDICTS}, {"@id": BADGE}],
            },
            {
                "@id": software,
                "@type": "SoftwareApplication",
                "name": "nos_repro",
                "version": version,
                "license": {"@id": LICENSE},
            },
            {
                "@id": PAPER,
                "@type": "ScholarlyArticle",
                "name": "Neural Optimizer Search with Reinforcement Learning",
                "author": "Irwan Bello, Barret Zoph, Vijay Vasudevan, Quoc V. Le",
                "datePublished": "2017",
            },
            {"@id": LICENSE, "@type": "CreativeWork", "name": "Apache License 2.0"},
        ],
    }
