"""The site as a reader meets it, in a real browser, opened from disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report import hostile
from tests.report.browser.conftest import DESK, PHONE

pytestmark = pytest.mark.slow

PAGES = [
    "index.html",
    "papers/small.html",
    "papers/zeta.html",
    "papers/unrun.html",
    "leaderboards.html",
    "rankings.html",
    "boards/line.html",
    "compare.html",
    "compare/small.html",
]


def rows(page, table: str = "#paper-table") -> list[str]:
    """The first cell of each row that is shown."""
    found = page.locator(f"{table} tbody tr:visible th")
    return [text.split("\n")[0].strip() for text in found.all_inner_texts()]


def test_pages_load_without_a_complaint_or_a_request(site, visit):
    for name in PAGES:
        seen = visit(site / name)
        assert seen.complaints == [], name
        assert all(url.startswith("file://") for url in seen.requests), name
        assert len(seen.requests) == 1, "everything is in the page"


def test_every_page_fits_a_phone_and_a_desk(site, visit):
    for name in PAGES:
        page = visit(site / name).page
        for viewport in (PHONE, DESK):
            page.set_viewport_size(viewport)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= viewport["width"], (name, viewport)


def test_columns_sort_both_ways_by_mouse_and_keyboard(site, visit):
    page = visit(site / "index.html").page
    year = page.locator("#paper-table thead th", has_text="Year")
    year.locator("button").click()
    assert year.get_attribute("aria-sort") == "ascending"
    assert rows(page)[:2] == ["Zeta flows", "Étale"]
    year.locator("button").press("Enter")
    assert year.get_attribute("aria-sort") == "descending"
    assert rows(page)[-1] == "Zeta flows"
    page.locator("#paper-table thead th", has_text="Paper").locator("button").press("Space")
    assert rows(page) == ["A paper not run", "A small suite", "Étale", "Zeta flows"], "é beside e"
    assert year.get_attribute("aria-sort") is None


def test_numbers_sort_as_numbers(site, visit):
    page = visit(site / "boards/line.html").page
    board = page.locator("section.lboard").first
    head = board.locator("thead th", has_text="Mean")
    head.locator("button").click()
    ascending = board.locator(".ranking tbody tr td:nth-child(4)").all_inner_texts()
    values = [float(text.split("±")[0]) for text in ascending]
    assert values == sorted(values)
    head.locator("button").click()
    assert board.locator(".ranking tbody tr td:nth-child(4)").all_inner_texts() == ascending[::-1]


def test_filters_narrow_and_count(site, visit):
    page = visit(site / "index.html").page
    form = page.locator("form.filters")
    assert form.locator("output").inner_text() == "4 of 4"
    form.get_by_label("Family").select_option("flow")
    assert rows(page) == ["Zeta flows"]
    assert form.locator("output").inner_text() == "1 of 4"
    form.get_by_label("Family").select_option("")
    form.get_by_label("Title").fill("ETALE")
    assert rows(page) == ["Étale"], "case and accents do not matter"
    form.get_by_label("Title").fill("nothing like it")
    assert rows(page) == []


def test_leaderboards_hide_tables_that_a_filter_empties(site, visit):
    page = visit(site / "boards/line.html").page
    assert page.locator("section.lboard:visible").count() == 2
    page.get_by_label("Method or paper").fill("narrow")
    assert page.locator("section.lboard:visible .ranking tbody tr:visible").count() == 2
    page.get_by_label("Year from").select_option("2026")
    assert page.locator("section.lboard:visible .ranking tbody tr:visible").count() == 2
    page.get_by_label("Method or paper").fill("nobody")
    assert page.locator("section.lboard:visible").count() == 0


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("zeta", "Zeta flows"),
        ("ETALE", "Étale"),
        ("flwos zeta", None),
        ("the wide", "the wide one"),
        ("smal suite", "A small suite"),
        ("nll line", "nll on line"),
    ],
)
def test_search_finds_papers_methods_datasets_and_metrics(site, visit, asked, found):
    page = visit(site / "index.html").page
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type(asked)
    hits = page.locator("#hits a bdi").all_inner_texts()
    assert (hits[:1] or [None]) == [found]
    if found is None:
        assert page.locator("#hits").inner_text() == "Nothing of that name."


def test_search_goes_where_it_says_by_keyboard(site, visit):
    seen = visit(site / "papers/small.html")
    seen.page.keyboard.press("/")
    seen.page.wait_for_url("**/index.html#q")
    seen.page.keyboard.type("zeta")
    seen.page.keyboard.press("ArrowDown")
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_url("**/papers/zeta.html")
    assert seen.complaints == []


def test_two_methods_are_chosen_and_set_side_by_side(site, visit):
    seen = visit(site / "compare/small.html")
    page = seen.page
    shown = page.locator("section.pair-result:visible")
    assert shown.count() == 1
    page.locator("[data-side=a]").select_option(label="narrow")
    page.locator("[data-side=b]").select_option(label="floor")
    assert "floor" in shown.locator("h2").inner_text()
    assert "narrow" in shown.locator("h2").inner_text()
    assert "B is worse" in shown.inner_text()
    page.locator("[data-side=a]").select_option(label="floor")
    page.locator("[data-side=b]").select_option(label="narrow")
    assert shown.count() == 1, "whichever is named first, the table says which is A and which is B"
    assert "(B) against" in shown.locator("h2").inner_text()
    page.locator("[data-side=a]").select_option(label="narrow")
    page.locator("[data-side=b]").select_option(label="narrow")
    assert shown.count() == 0
    assert page.locator("[data-nothing]").is_visible()
    again = visit(site / "compare/small.html", place="#a=0&b=2").page
    assert "the wide one" in again.locator("section.pair-result:visible h2").inner_text()
    assert seen.complaints == []


def test_the_theme_follows_the_system_until_one_is_chosen(site, visit):
    def background(page) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(float(part)) for part in colour.split("(")[1].rstrip(")").split(",")[:3])

    assert background(visit(site / "index.html", scheme="light").page) > 600
    page = visit(site / "index.html", scheme="dark").page
    assert background(page) < 150
    page.get_by_role("button", name="Theme").click()
    assert background(page) > 600, "light was chosen"
    page.reload()
    assert background(page) > 600, "and is remembered"
    page.get_by_role("button", name="Theme").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.get_by_role("button", name="Theme").click()
    assert page.locator("html").get_attribute("data-theme") is None


def test_a_cells_reason_shows_on_focus(site, visit):
    page = visit(site / "papers/small.html").page
    cell = page.locator("td.cell").first
    tip = cell.locator(".tip")
    assert not tip.is_visible()
    cell.focus()
    tip.wait_for(state="visible")
    assert "the wide one" in tip.inner_text()


def test_links_to_what_is_folded_open_it(site, visit):
    page = visit(site / "papers/small.html").page
    assert page.locator("details.reasons li").first.is_hidden()
    page.locator("details.reasons summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.reasons li").first.is_visible()


def test_commands_are_copied(site, visit):
    page = visit(site / "papers/small.html").page
    button = page.locator(".command button").first
    button.click()
    page.wait_for_function("document.querySelector('.command button').textContent === 'Copied'")


def test_hostile_text_shows_as_text(hostile_site, visit):
    for path in sorted(hostile_site.rglob("*.html")):
        seen = visit(path)
        assert seen.complaints == [], path
        assert len(seen.requests) == 1
        assert seen.page.evaluate("document.title === 'owned'") is False
        for viewport in (PHONE, DESK):
            seen.page.set_viewport_size(viewport)
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path
    page = visit(hostile_site / "papers/small.html").page
    assert hostile.SCRIPT in page.locator("h1").inner_text()
    assert hostile.EMOJI.split(" ")[0] in page.locator("h1").inner_text()
    page = visit(hostile_site / "index.html").page
    page.locator("#q").fill("script")
    assert hostile.SCRIPT in page.locator("#hits").inner_text()
    assert page.evaluate("document.title === 'owned'") is False


def axe_script() -> str:
    axe = pytest.importorskip("axe_playwright_python")
    return (Path(axe.__file__).parent / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(site, visit, scheme):
    script = axe_script()
    for name in PAGES if scheme == "light" else PAGES[1:6:2]:
        page = visit(site / name, scheme=scheme).page
        page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        page.evaluate(f"() => {{ {script} }}")
        found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
        serious = [
            (v["id"], v["impact"], [n["html"][:200] for n in v["nodes"][:3]])
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == [], (name, scheme)
        assert len(found["passes"]) > 10
