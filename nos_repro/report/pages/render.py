"""From a page's data to its bytes: the templates, the style, the scripts, all in one file.

Each page is self-contained: its policy forbids the network and allows only the page's own two
scripts, by their digests, whatever a name may contain.
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

PACKAGE = "nos_repro.report.pages"
PLOTLY = "vendor/plotly-basic.min.js"
"""Plotly's own smallest script, which draws lines and dots, a quarter of the whole."""


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def _asset(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text("utf-8")


@functools.cache
def _digest(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def render(page: Page) -> bytes:
    """The file of a page, with Plotly in it if the page has a chart."""
    charts = page.charts
    scripts = [_asset(PLOTLY)] if charts else []
    scripts.append(_asset("templates/page.js"))
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline';"
        f" script-src {' '.join(map(_digest, scripts))}; base-uri 'none'; form-action 'none'"
    )
    text = _environment().get_template(page.template).render(
        page=page,
        policy=policy,
        style=Markup(_asset("templates/style.css")),
        scripts=[Markup(script) for script in scripts],
        document=Markup(script_json(page.document)),
        charts=Markup(script_json([chart.to_json() for chart in charts])),
    )  # fmt: skip
    return text.encode(errors="backslashreplace")  # a path that is not UTF-8
