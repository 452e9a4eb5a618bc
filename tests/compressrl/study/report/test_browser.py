"""The page in a real Chromium, offline: no errors, no requests, details, sorting, and no sideways scrolling.

Screenshots of every size and colour scheme are written to build/browser/.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from compressrl.study.report import page, reference, rendering

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright drives the browser: pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
PICTURES = Path("build") / "browser"
PHONE, DESKTOP = (390, 844), (1280, 900)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, done, undone, study_of) -> Path:
    """A page with everything on it: sweeps, failures, missing policies, several algorithms."""
    noise = random.Random(0)
    outcomes = []
    for algorithm in ("trpo", "ppo", "sac"):
        for env_id in ("HalfCheetah-v5", "HumanoidStandup-v5"):
            returns = [noise.gauss(3000, 100) for _ in range(5)]

            def add(compressor: str, kept: float, *place: str, returns=returns) -> None:
                after = [value * kept * noise.uniform(0.97, 1.03) for value in returns]
                cost = {"p50": 10 * noise.uniform(0.5, 1.5), "size": int(300 + 700 * kept)}
                outcomes.append(done(*place, compressor, returns, after, compressed=cost))

            for compressor, kept in (("", 1.0), ("ptdq", 0.9), ("ptsq", 0.5), ("qat", 1.0)):
                add(compressor, kept, algorithm, env_id)
            for level in range(1, 15):
                for name in ("l1", "l2"):
                    add(f"{name}:ratio={0.05 * level:.2f}", max(0.0, 1 - level / 10), algorithm, env_id)
    outcomes.append(undone("td3", "Ant-v5", "ptdq", "failed", "ValueError: <script>throw 1</script>"))
    command = "compressrl train --algo ddpg --env Ant-v5 --steps 1000000"
    outcomes.append(undone("ddpg", "Ant-v5", "ptdq", "missing", command))
    published = reference.load(Path(str(files("compressrl_studies") / "paper_2407_04803.json")))
    path = tmp_path_factory.mktemp("study") / "report.html"
    path.write_text(rendering.to_html(page.build(study_of(*outcomes), outcomes, published)))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        # Without a sandbox, because tests of containers run as root.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, report):
    """`opened(width, height, scheme)` gives the page, and what went wrong on it."""
    contexts = []

    def open_page(width: int, height: int, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        tab, trouble = context.new_page(), []
        tab.on("console", lambda message: trouble.append(message.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on(
            "request", lambda request: trouble.append(request.url) if request.url != report.as_uri() else None
        )
        tab.goto(report.as_uri())
        return tab, trouble

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_loads_alone_and_fits(opened, size, scheme):
    tab, trouble = opened(*size, scheme)
    assert trouble == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
    back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    PICTURES.mkdir(parents=True, exist_ok=True)
    tab.screenshot(
        path=str(PICTURES / f"{'phone' if size == PHONE else 'desktop'}_{scheme}.png"), full_page=True
    )


def test_details_show_by_pointer_by_tap_and_by_keyboard(opened):
    tab, trouble = opened(*DESKTOP)
    tip = tab.locator("#tip")
    assert tip.is_hidden()
    marks = tab.locator("#figures .panel .mark")
    marks.nth(3).hover()
    assert tip.inner_text() == marks.nth(3).get_attribute("aria-label")
    tab.keyboard.press("Escape")
    assert tip.is_hidden()
    marks.nth(0).focus()
    assert tip.inner_text() == marks.nth(0).get_attribute("aria-label")
    tab.keyboard.press("ArrowRight")
    assert tip.inner_text() == marks.nth(1).get_attribute("aria-label")
    tab.keyboard.press("ArrowLeft")
    assert tip.inner_text() == marks.nth(0).get_attribute("aria-label")
    marks.nth(2).click()
    assert tip.inner_text() == marks.nth(2).get_attribute("aria-label")
    assert trouble == []


def test_every_figure_is_one_stop_of_the_tab_key(opened):
    tab, _ = opened(*DESKTOP)
    stops = [svg.locator('.mark[tabindex="0"]').count() for svg in tab.locator(".panel svg").all()]
    assert stops == [1] * len(stops)
    assert len(stops) > 8


def test_details_stay_on_the_page_of_a_phone(opened):
    tab, _ = opened(*PHONE)
    for mark in tab.locator("#figures .panel .mark").all()[:40:8]:
        mark.focus()
        box = tab.locator("#tip").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE[0]


def test_a_click_on_a_header_sorts_by_number_and_back(opened):
    tab, trouble = opened(*DESKTOP)
    table = tab.locator("#methods table")
    header = table.locator("th").nth(2)

    def column() -> list[float]:
        shown = table.locator("tbody tr td:nth-child(3)").all_inner_texts()
        return [float(text.split("%")[0].replace(",", "")) for text in shown if "n/a" not in text]

    before = column()
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column() == sorted(before) != before
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert column() == sorted(before, reverse=True)
    assert trouble == []


def test_what_was_not_measured_is_sorted_last_either_way(opened):
    tab, _ = opened(*DESKTOP)
    table = tab.locator("#tables table").first
    header = table.locator("th").nth(2)
    for _ in range(2):
        header.locator("button").click()
        shown = table.locator("tbody tr td:nth-child(3)").all_inner_texts()
        assert [text.startswith("not measured") for text in shown] == [False] * 6 + [True] * 2


def test_markup_in_an_error_is_text(opened):
    tab, trouble = opened(*DESKTOP)
    assert "<script>throw 1</script>" in tab.locator("#open").inner_text()
    assert trouble == []


def test_the_data_behind_a_figure_opens(opened):
    tab, _ = opened(*PHONE)
    details = tab.locator("#figures details").first
    assert not details.locator("table").is_visible()
    details.locator("summary").click()
    assert details.locator("table").is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
