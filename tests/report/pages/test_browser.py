"""The pages in Chromium: what a person sees, clicks, prints; and that they make no requests."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from nos_repro.report.claims.results import Results
from nos_repro.report.collection import read_collection
from nos_repro.report.pages.study_page import study_page
from nos_repro.report.pages.write import write_page, write_pages
from tests.report.pages.browser import DESKTOP, PHONE, Browser, browser, in_browser
from tests.report.pages.made_up import HOSTILE, found, made_up_study

pytestmark = [in_browser, pytest.mark.slow]

VISIBLE = "document.querySelector(arguments[0]).data.filter(t => t.visible !== false).length"
PLOT = "[data-chart=curves] .plot"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("screenshots")) as started:
        yield started


@pytest.fixture(scope="module")
def pages(committed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of the committed results."""
    folder = tmp_path_factory.mktemp("pages")
    results = Results(committed)
    write_pages(read_collection(results), folder)
    return folder


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of made-up records."""
    folder = tmp_path_factory.mktemp("made_up")
    write_page(study_page(found(folder / "results"), "tiny"), folder / "tiny.html")
    return folder / "tiny.html"


def test_the_table_shows_our_numbers_and_the_papers_with_a_verdict(
    chromium: Browser, pages: Path
) -> None:
    chromium.open(pages / "table2-small.html")
    rows = chromium.texts("#table tbody tr")
    assert len(rows) == 16
    best = rows[0]
    assert best.startswith("PowerSign (cosine)")
    assert "63.13 ± 0.74 (2)" in best.replace("\N{NO-BREAK SPACE}", " ")
    assert "★" in best
    assert "95.4" in best
    whole = chromium.find("main").text
    assert whole.count("not comparable (scale)") == 1
    assert "32 not comparable (scale)" in whole
    said = chromium.find(".sentence").text
    assert "The paper says" in said.replace("THE PAPER SAYS", "The paper says")
    assert said.index("With learning-rate decay") < said.index("undecided")
    chromium.shoot("study", whole=True)
    assert chromium.complaints() == []


def test_a_number_opens_its_provenance_and_escape_closes_it(
    chromium: Browser, made_up: Path
) -> None:
    chromium.open(made_up)
    behind = chromium.find("#provenance")
    assert not behind.is_displayed()
    number = chromium.find("#table tbody tr:nth-child(1) td:nth-child(2) button")
    assert chromium.texts("#table tbody th")[0].startswith("PowerSign")
    assert number.text.replace("\N{NO-BREAK SPACE}", " ").endswith("(2)")
    number.click()
    assert behind.is_displayed()
    for words in (
        "PowerSign", "Commit 0123456789ab", "Seeds 0, 1, 2", "lr=0.1: best val 66, the next is",
        "Some CPU (2 cores)", "torch 2.9.0", "★ chosen", "diverged", "a <b>bug</b> & more",
        "no log here", "made at scale smoke, the paper's number was not",
    ):  # fmt: skip
        assert words in behind.text, words
    chromium.shoot("provenance")
    chromium.find("body").send_keys(Keys.ESCAPE)
    assert not behind.is_displayed()


def test_the_provenance_opens_by_the_keyboard_alone(chromium: Browser, made_up: Path) -> None:
    chromium.open(made_up)
    chromium.find("#table tbody tr:nth-child(3) td button").send_keys(Keys.ENTER)
    assert chromium.find("#provenance h2").text.startswith("SGD")
    assert "1 trials" in chromium.find("#provenance .state").text


def test_a_click_on_a_row_of_the_legend_hides_it_in_every_chart(
    chromium: Browser, made_up: Path
) -> None:
    chromium.open(made_up)
    sweeps = "[data-chart=sweeps] .plot"
    assert chromium.texts(".legend .lines button") == ["PowerSign", "AddSign", "SGD"]  # best first
    before = [chromium.run(VISIBLE, plot) for plot in (PLOT, sweeps)]
    button = chromium.find(".legend .lines button")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    # its line and its band; its points and its divergence
    assert chromium.wait(f"{VISIBLE} === {before[0] - 2}", PLOT)
    assert chromium.wait(f"{VISIBLE} === {before[1] - 2}", sweeps)
    drawn = f"document.querySelectorAll('{PLOT} .scatterlayer .trace').length"
    assert chromium.wait(f"{drawn} === {before[0] - 2}")
    button.click()
    assert chromium.wait(f"{VISIBLE} === {before[0]}", PLOT)


def test_a_band_reaches_one_standard_deviation_above_and_below_its_line(
    chromium: Browser, made_up: Path
) -> None:
    chromium.open(made_up)
    shown = chromium.run(f"document.querySelector('{PLOT}').data.map(t => [t.fill, t.y, t.meta])")
    lines = [y for fill, y, _ in shown if fill is None]
    bands = [y for fill, y, _ in shown if fill == "toself"]
    assert len(lines) == len(bands) == 3
    for line, band in zip(lines, bands, strict=True):
        high, low = band[:4], band[:3:-1]
        assert [(a + b) / 2 for a, b in zip(high, low, strict=True)] == pytest.approx(line)
        # two seeds whose values are 1 apart
        assert [(a - b) / 2 for a, b in zip(high, low, strict=True)] == pytest.approx(
            [0.5**0.5] * 4, rel=1e-4
        )


def test_the_metric_can_be_chosen_and_the_axis_made_logarithmic(
    chromium: Browser, made_up: Path
) -> None:
    chromium.open(made_up)
    title = f"{PLOT} .ytitle"
    assert chromium.texts(title) == ["test accuracy (%)"]
    chromium.find("[data-chart=curves] option[value=val_accuracy]").click()
    chromium.wait("document.querySelector(arguments[0]).textContent[0] === 'v'", title)
    assert chromium.texts(title) == ["val accuracy (%)"]
    chromium.find("[data-chart=curves] .log").click()
    kind = f"document.querySelector('{PLOT}')._fullLayout.yaxis.type"
    assert chromium.wait(f"{kind} === 'log'")


def test_a_target_can_be_chosen_in_epochs_and_seconds(chromium: Browser, made_up: Path) -> None:
    chromium.open(made_up)
    title = "[data-chart=targets] .xtitle"
    assert chromium.texts(title) == ["epochs to the target"]
    assert "Dolan and Moré" in chromium.find("#charts").text
    chromium.find("[data-chart=targets] option[value=seconds]").click()
    chromium.wait("document.querySelector(arguments[0]).textContent[0] === 's'", title)
    assert "row" not in "".join(chromium.texts("[data-chart=targets] .ytick"))
    assert "PowerSign" in chromium.texts("[data-chart=targets] .ytick")


@pytest.mark.parametrize(
    "name", ["index", "table2-small", "figure5_rosenbrock-paper", "search-small"]
)
def test_a_page_makes_no_requests_logs_no_errors_and_fits_a_phone(
    name: str, chromium: Browser, pages: Path
) -> None:
    chromium.open(pages / f"{name}.html", PHONE)
    charts = chromium.run(
        "JSON.parse(document.getElementById('chart-data').textContent).charts.length"
    )
    assert chromium.wait(f"document.querySelectorAll('.js-plotly-plot').length === {charts}")
    assert (charts > 0) == (name != "index")
    assert chromium.run("document.documentElement.scrollWidth") <= PHONE[0]
    chromium.shoot(f"{name}-phone", whole=True)
    assert chromium.asked() <= {"file", "data", "blob"}
    assert chromium.complaints() == []


def test_a_page_prints_with_its_static_figure_and_without_controls(
    chromium: Browser, pages: Path
) -> None:
    chromium.open(pages / "icml_figure5-small.html")
    assert chromium.run("!document.querySelector('details.static').open")
    pdf = chromium.printed()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 0
    (chromium.shots / "printed.pdf").write_bytes(pdf)
    with chromium.as_printed():
        assert not chromium.find(".controls").is_displayed()
        assert not chromium.find(".behind").is_displayed()
        assert chromium.find("#table table").is_displayed()
        assert chromium.find("details.static img").is_displayed()
        assert not chromium.find("[data-chart=curves]").is_displayed()  # the figure shows them
        assert chromium.find("[data-chart=sweeps]").is_displayed()


def test_names_with_markup_are_shown_as_they_are_and_do_nothing(
    chromium: Browser, tmp_path: Path
) -> None:
    known = found(tmp_path / "results", made_up_study(HOSTILE))
    write_page(study_page(known, "tiny"), tmp_path / "hostile.html")
    chromium.open(tmp_path / "hostile.html")  # an alert would make every later call fail
    best_first = [HOSTILE[1], HOSTILE[2], HOSTILE[0]]
    assert chromium.texts("#table tbody th .opens") == best_first
    assert chromium.texts(".legend .lines button") == best_first
    clipped = [name if len(name) <= 26 else f"{name[:25]}…" for name in best_first]
    assert chromium.texts("[data-chart=targets] .ytick") == clipped
    assert chromium.run("document.querySelectorAll('script').length") == 5
    assert chromium.run("document.querySelectorAll('img:not(.static img)').length") == 0
    assert chromium.run("document.title") == "tiny, scale smoke"
    chromium.find("#table tbody tr:nth-child(2) th button").click()
    assert chromium.find("#provenance h2").text.startswith(HOSTILE[2])
    assert chromium.complaints() == []
    chromium.shoot("hostile", whole=True)


def test_the_index_leads_to_every_page_and_filters_the_claims(
    chromium: Browser, pages: Path
) -> None:
    chromium.open(pages / "index.html")
    links = chromium.run("[...document.querySelectorAll('a[href*=html]')].map(a => a.href)")
    names = {path.name for path in pages.glob("*.html")} - {"index.html"}
    assert names <= {link.partition("#")[0].rpartition("/")[2] for link in links}
    card = next(text for text in chromium.texts(".card") if text.startswith("Two found rules"))
    for words in (
        "small",
        "ICML version, Figure 5",
        "icml_figure5",
        "6 of 6 rows complete",
        "Optimizer 1",
        "core-hours",
    ):
        assert words in card
    claims = ".filtered > li:not([hidden])"
    every = len(chromium.texts(claims))
    totals = chromium.find(".totals").text
    chromium.find(".filter option[value='does not hold']").click()
    shown = chromium.texts(f"{claims} .badge")
    assert f"{len(shown)} do not hold" in totals
    assert 0 < len(shown) < every
    assert all("does not hold" in text for text in shown)
    chromium.find(".filter input").send_keys("convnet")
    assert len(chromium.texts(claims)) == 1
    chromium.find(f"{claims} a:not(.permalink)").click()
    assert chromium.wait("document.title") == "Two found rules on the small ConvNet, scale small"
    assert chromium.find("table").is_displayed()
    chromium.open(pages / "figure5_rosenbrock-paper.html")
    assert chromium.find(".figure img").is_displayed()


@pytest.mark.parametrize("name", ["index", "icml_figure5-small", "search-small"])
def test_a_dark_page_is_dark_and_its_text_light(name: str, chromium: Browser, pages: Path) -> None:
    chromium.open(pages / f"{name}.html", DESKTOP, dark=True)
    style = "getComputedStyle(document.body)"
    back, ink = (chromium.run(f"{style}.{key}") for key in ("backgroundColor", "color"))
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (back, ink)]
    assert brightness[0] < 150 < 500 < brightness[1]
    black = (
        "[...document.querySelectorAll('.js-line')].filter(p => p.style.stroke === 'rgb(0, 0, 0)')"
    )
    assert chromium.run(black) == []
    chromium.shoot(f"{name}-dark", whole=True)


def test_axe_finds_nothing_on_any_page_light_or_dark(chromium: Browser, pages: Path) -> None:
    found = {}
    for page in sorted(pages.glob("*.html")):
        chromium.open(page)
        found[page.name, "light"] = chromium.faults()
        chromium.colours(dark=True)
        found[page.name, "dark"] = chromium.faults("color-contrast")
    assert len(found) > 10
    assert not any(found.values()), found


def test_axe_finds_nothing_behind_a_number_and_on_a_phone(chromium: Browser, pages: Path) -> None:
    chromium.open(pages / "table2-small.html", PHONE)
    chromium.find("#table tbody button").click()
    assert chromium.find("#provenance").is_displayed()
    assert chromium.faults() == []


def test_a_heading_sorts_and_a_third_press_gives_the_first_order_back(
    chromium: Browser, pages: Path
) -> None:
    chromium.open(pages / "table2-small.html")
    names, heads = "#table tbody th", "#table thead th"
    first = chromium.texts(names)
    assert chromium.find("[aria-sort]").get_attribute("aria-sort") == "descending"
    paper = f"{heads}:nth-child(3)"
    assert chromium.find(paper).text.startswith("Best Test, paper")

    def order() -> list[float]:
        return [float(text) for text in chromium.texts("#table tbody td:nth-child(3)")]

    chromium.find(f"{paper} button").click()
    assert order() == sorted(order(), reverse=True)
    assert chromium.find(paper).get_attribute("aria-sort") == "descending"
    chromium.find(f"{paper} button").click()
    assert order() == sorted(order())
    chromium.find(f"{paper} button").click()
    assert chromium.texts(names) == first


def test_the_rows_of_a_table_can_be_filtered(chromium: Browser, pages: Path) -> None:
    chromium.open(pages / "table2-small.html")
    chromium.find("#table .tools input").send_keys("addsign noisy")
    shown = chromium.texts("#table tbody tr:not([hidden]) th")
    assert sorted(shown) == ["AddSign-cd (noisy linear cosine)", "AddSign-ld (noisy linear cosine)"]
    assert chromium.find("#table .tools output").text == "2 of 16"


def test_a_table_and_the_trials_behind_it_are_downloaded_as_data(
    chromium: Browser, pages: Path, tmp_path: Path
) -> None:
    chromium.open(pages / "table2-small.html")
    tools = chromium.driver.find_elements("css selector", "#table .tools button")
    assert [tool.text for tool in tools] == ["CSV", "JSON", "all trials as CSV"]
    names = ["table2-small.csv", "table2-small.json", "table2-small-trials.csv"]
    with chromium.downloads(tmp_path):
        for tool, name in zip(tools, names, strict=True):
            tool.click()
            chromium.until(lambda name=name: (tmp_path / name).exists())  # type: ignore[misc]
    rows = list(csv.DictReader((tmp_path / names[0]).read_text().splitlines()))
    best = {"row": "PowerSign (cosine)", "Best Test": "63.13", "Best Test, std": "0.74",
            "Best Test, runs": "2", "chosen": "lr=0.3"}  # fmt: skip
    assert best.items() <= rows[0].items()
    assert len(rows) == 16
    same = json.loads((tmp_path / names[1]).read_text())
    assert same[0]["Best Test"] == 63.13
    trials = list(csv.DictReader((tmp_path / names[2]).read_text().splitlines()))
    records = {trial["trial"] for trial in trials}
    assert len(records) == 80
    assert {trial["ended"] for trial in trials} == {"finished"}


def test_every_number_has_a_link_that_leads_to_it(chromium: Browser, pages: Path) -> None:
    page = pages / "table2-small.html"
    chromium.open(page)
    ids = chromium.run("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(set(ids)) == len(ids)
    number = "table2-small.powersign-cosine.best-test"
    cell = chromium.find(f"[id='{number}']")
    assert cell.text.startswith("63.13")
    assert not cell.find_elements("css selector", ".permalink")
    chromium.driver.execute_script("arguments[0].querySelector('button').focus()", cell)
    link = cell.find_element("css selector", ".permalink")
    assert link.is_displayed()
    assert link.get_attribute("href") == f"{page.as_uri()}#{number}"
    link.click()
    assert chromium.run("document.querySelector(':target').id") == number
    chromium.driver.get(f"{page.as_uri()}#why.table2-small.adam-cosine")
    chromium.driver.refresh()
    assert chromium.find("#provenance h2").text.startswith("Adam (cosine)")


def test_on_a_phone_no_word_is_split_and_a_wide_table_says_that_it_scrolls(
    chromium: Browser, pages: Path
) -> None:
    chromium.open(pages / "filter_search-small.html", (390, 844))
    assert chromium.find("#table .hint").is_displayed()
    split = """(() => {
        const range = document.createRange(), split = [];
        const walk = document.createTreeWalker(document.querySelector("#table tbody"), 4);
        while (walk.nextNode()) for (const found of walk.currentNode.data.matchAll(/[^ \\n]+/g)) {
            range.setStart(walk.currentNode, found.index);
            range.setEnd(walk.currentNode, found.index + found[0].length);
            if (new Set([...range.getClientRects()].map(r => r.top)).size > 1) split.push(found[0]);
        }
        return split;
    })()"""
    assert chromium.run(split) == []
    chromium.open(pages / "filter_search-small.html", (1600, 900))
    assert not chromium.find("#table .hint").is_displayed()


def test_the_best_rows_are_drawn_first_and_all_on_demand(chromium: Browser, pages: Path) -> None:
    chromium.open(pages / "table2-small.html")
    pressed = ".legend .lines [aria-pressed=true]"
    best = [name.split(" ★")[0] for name in chromium.texts("#table tbody th")][:6]
    assert chromium.texts(pressed) == best
    looks = chromium.run(
        f"[...document.querySelectorAll('{pressed} line')].map(l => l.getAttribute('stroke'))"
    )
    assert len(set(looks)) == 6
    choices = {button.text: button for button in
               chromium.driver.find_elements("css selector", ".choices button")}  # fmt: skip
    assert list(choices) == ["the best 6", "those of the paper's figure", "all", "none"]
    choices["all"].click()
    assert len(chromium.texts(pressed)) == 16


def test_a_standalone_page_needs_no_other_file(chromium: Browser, tmp_path: Path) -> None:
    known = found(tmp_path / "results")
    alone, shared = tmp_path / "alone" / "page.html", tmp_path / "shared" / "page.html"
    assert write_page(study_page(known, "tiny"), alone) == [alone]
    beside = write_page(study_page(known, "tiny"), shared, standalone=False)
    assert {path.name for path in beside} == {"page.html", "style.css", "page.js",
                                              "plotly-basic.min.js"}  # fmt: skip
    looks = []
    for page in (alone, shared):
        chromium.open(page)
        chromium.wait("document.querySelectorAll('.js-plotly-plot').length === 4")
        assert chromium.complaints() == []
        looks.append((chromium.texts("#table tbody tr"), chromium.run(
            "getComputedStyle(document.querySelector('.opens')).cursor")))  # fmt: skip
    assert looks[0] == looks[1]
    assert shared.stat().st_size < 100_000 < 1_000_000 < alone.stat().st_size


def test_pages_are_small(pages: Path) -> None:
    for page in pages.glob("*.html"):
        assert page.stat().st_size < 1_000_000, page.name
