"""From a page's data to its bytes: the template, and the assets that all pages share.

The stylesheet and the scripts lie beside the pages, in `assets/`; a *standalone* page holds them
itself and needs no other file. Either asks for nothing else: its policy forbids the network and any
script but these, whatever a name may contain.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nos_repro.report.pages.charts import script_json
from nos_repro.report.pages.page import Page
from nos_repro.report.pages.tables import badge_html, table_html, with_code
from nos_repro.report.words import versions

PACKAGE = "nos_repro.report.pages"
ASSETS = "assets"
"""The folder of what pages share, beside them."""
STYLE, SCRIPT, PLOTLY = "style.css", "page.js", "plotly-basic.min.js"
PARTS = ("dom.js", "tables.js", "behind.js", "charts.js", "claims.js")
"""What the pages' own script is made of, in order."""


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"badge": badge_html, "table": table_html}
    environment.filters |= {"versions": versions, "with_code": with_code}
    return environment


def _read(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text("utf-8")


@functools.cache
def assets() -> dict[str, str]:
    """The texts of what pages share, by their files' names."""
    script = "\n".join(_read(f"{ASSETS}/{part}") for part in PARTS)
    return {
        STYLE: _read(f"{ASSETS}/{STYLE}"),
        SCRIPT: f'"use strict";\n(() => {{\n{script}}})();\n',
        PLOTLY: _read(f"vendor/{PLOTLY}"),
    }


def _digest(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def render(page: Page, *, standalone: bool = False) -> bytes:
    """The file of a page. Only one with a chart asks for Plotly, or holds it."""
    charts = page.charts_json()
    scripts = [PLOTLY, SCRIPT] if charts["charts"] else [SCRIPT]
    allowed = "'self' file:"  # a page that was opened as a file has no origin that were its own
    held = {name: Markup(assets()[name]) for name in (STYLE, *scripts)} if standalone else {}
    if standalone:
        allowed = " ".join(_digest(assets()[name]) for name in scripts)
    policy = (
        "default-src 'none'; img-src data: blob:; base-uri 'none'; form-action 'none';"
        f" style-src 'unsafe-inline'{'' if standalone else ' ' + allowed}; script-src {allowed}"
    )
    text = _environment().get_template(page.template).render(
        page=page,
        policy=policy,
        held=held,
        style=STYLE,
        scripts=scripts,
        assets=ASSETS,
        data={
            "document": Markup(script_json(page.document)),
            "chart-data": Markup(script_json(charts)),
            "behind-data": Markup(script_json(page.behind_json())),
        },
    )  # fmt: skip
    return text.encode(errors="backslashreplace")  # a path that is not UTF-8
