"""The page in a real browser: nothing is fetched, nothing complains, links lead somewhere, anybody can read it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rnn_export.reports import write_report
from tests.browser import Browser, browser
from tests.rows import failing_report, hostile_report, passing_report

PAGES = {"passing": passing_report, "failing": failing_report, "hostile": hostile_report}
each_page = pytest.mark.parametrize("page", list(PAGES))
each_scheme = pytest.mark.parametrize("scheme", ["light", "dark"])
# The contrast of every piece of text with what is behind it, as WCAG 2 computes it; the lowest first.
CONTRASTS = """
(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = colour => {
    const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = channels(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour.slice(0, 3);
    }
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, style = getComputedStyle(element);
    if (!texts.currentNode.data.trim() || !element.getClientRects().length) continue;
    const ink = element.closest('svg') ? style.fill : style.color;
    const [dark, light] = [luminance(channels(ink).slice(0, 3)), luminance(behind(element))].sort((a, b) => a - b);
    found.push([(light + 0.05) / (dark + 0.05), texts.currentNode.data.trim().slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, make in PAGES.items():
        write_report(make(), folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in PAGES}


@each_page
def test_nothing_is_fetched_and_nothing_complains(tab, written, page):
    tab.open(written[page])
    tab.evaluate("new Promise(done => setTimeout(done, 200))")
    addresses = [address for address in tab.fetched() if not address.startswith("data:")]
    assert addresses == [written[page].as_uri()]
    assert tab.complaints() == []


@each_page
def test_every_link_leads_to_its_place_on_the_page(tab, written, page):
    tab.open(written[page])
    links = "[...document.querySelectorAll('a')].map(link => link.getAttribute('href'))"
    missing = tab.evaluate(f"{links}.filter(to => !document.getElementById(decodeURIComponent(to.slice(1))))")
    assert missing == []
    assert tab.evaluate(f"{links}.length") > 10
    twice = "[...document.querySelectorAll('[id]')].map(one => one.id)"
    assert tab.evaluate(f"{twice}.length - new Set({twice}).size") == 0


def test_a_link_to_a_case_shows_it(tab, written):
    tab.open(written["passing"])
    tab.evaluate("location.hash = '#onnxruntime-cpu/T=5-B=3'")
    assert tab.evaluate("document.querySelector(':target th').textContent.trim()") == "T=5 B=3"
    tab.evaluate("new Promise(done => setTimeout(done, 1500))")  # it scrolls smoothly
    top = tab.evaluate("document.querySelector(':target').getBoundingClientRect().top")
    assert 0 <= top < 900


@each_page
@each_scheme
def test_all_text_has_the_contrast_that_wcag_asks_for(tab, written, page, scheme):
    tab.open(written[page], scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) > 50
    assert contrasts[0][0] >= 4.5, contrasts[:3]


def test_both_colour_schemes_are_there_and_the_drawings_follow_them(tab, written):
    seen = {}
    for scheme in ("light", "dark"):
        tab.open(written["failing"], scheme=scheme)
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        line = tab.evaluate("getComputedStyle(document.querySelector('svg path[style*=accent]')).stroke")
        seen[scheme] = paper, line, tab.photograph()
    assert all(light != dark for light, dark in zip(seen["light"], seen["dark"], strict=True))


@each_page
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_is_no_wider_than_the_window(tab, written, page, width):
    tab.open(written[page], width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@each_page
def test_no_name_becomes_markup(tab, written, page):
    tab.open(written[page])
    assert tab.evaluate("document.querySelectorAll('script, iframe, img, object, embed, base, form').length") == 0
    handlers = (
        "[...document.querySelectorAll('*')].filter(one => [...one.attributes].some(a => a.name.startsWith('on')))"
    )
    assert tab.evaluate(f"{handlers}.length") == 0


@each_page
def test_tables_have_headers_and_drawings_have_words(tab, written, page):
    tab.open(written[page])
    bare = "[...document.querySelectorAll('tbody tr')].filter(row => !row.querySelector('th[scope=row]')).length"
    assert tab.evaluate(bare) == 0
    assert tab.evaluate("[...document.querySelectorAll('thead th')].every(one => one.scope === 'col')")
    named = (
        "[...document.querySelectorAll('svg')].every(one => one.closest('[role=img]').ariaLabel.includes('largest'))"
    )
    assert tab.evaluate(named)
    assert tab.evaluate("document.documentElement.lang") == "en"
