"""The page in headless Chromium: what a person does and sees."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.explore.conftest import serving
from tests.explore.fake import FakeRecommender, FakeRetrieval
from tfrec.data.tables import Tables
from tfrec.explore.explorer import Explorer
from tfrec.explore.shop import Shop

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)
Serve = Callable[[Explorer], str]


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """The browser, with its profile in a folder of its own."""
    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield found
    finally:
        found.quit()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("no chromium and chromedriver on this machine; 'make system' installs them")
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        yield found


class Page:
    """The browser on one explorer; every look waits until it is true."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser, self.url = browser, url

    def open(self, path: str = "/") -> Page:
        self.browser.get(self.url + path)
        return self

    def until(self, true: Callable[[], Any]) -> Any:
        return WebDriverWait(self.browser, 20, 0.05).until(lambda _: true())

    def find(self, css: str) -> Any:
        return self.until(lambda: next(iter(self.browser.find_elements(By.CSS_SELECTOR, css)), 0))

    def read(self, script: str) -> Any:
        return self.browser.execute_script(f"return {script}")

    def items(self, nth: int = 0) -> list[str]:
        script = (
            f"[...(document.querySelectorAll('ol.rows')[{nth}]?.children || [])]"
            ".map(li => li.dataset.item)"
        )
        return self.until(lambda: self.read(script))

    def wish(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.browser.current_url).query)

    def slide(self, name: str, value: float) -> None:
        """As a person drags: the value, then the event."""
        self.browser.execute_script(
            "const n = document.getElementById(arguments[0]); n.value = arguments[1];"
            "n.dispatchEvent(new Event('input', {bubbles: true}));",
            f"r-{name}",
            str(value),
        )

    def complaints(self) -> list[str]:
        """What the console got: scripts that failed, files refused by the page's policy."""
        return [entry["message"] for entry in self.browser.get_log("browser")]  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def one(browser: webdriver.Chrome, tables: Tables, shop: Shop) -> Iterator[Page]:
    with serving(Explorer([FakeRecommender(tables)], shop)) as url:
        yield Page(browser, url)


def test_pick_a_user_by_keyboard(one: Page, shop: Shop) -> None:
    one.open()
    someone_new = one.items()
    field = one.find("#user")
    field.send_keys("u1")
    one.until(lambda: field.get_attribute("aria-busy") is None)
    assert one.read("document.querySelectorAll('#user-options li').length > 2")
    field.send_keys(Keys.ARROW_DOWN)
    assert field.get_attribute("aria-activedescendant") == "user-0"
    assert field.get_attribute("aria-expanded") == "true"
    field.send_keys(Keys.ENTER)
    one.until(lambda: one.wish() == {"user_id": ["u1"]})
    heading = one.find("aside h2")
    assert heading.text == f"User u1: {len(shop.history('u1'))} events"
    had = {event["item_id"] for event in shop.history("u1")}
    listed = one.until(lambda: one.items() if one.items() != someone_new else None)
    assert had & set(someone_new)
    assert not had & set(listed)
    # The real history stands beside it, newest first.
    newest = shop.history("u1")[-1]
    assert newest["title"] in one.find("aside li").text
    assert one.complaints() == []


def test_a_slider_changes_list_measures_and_link(one: Page) -> None:
    one.open("/?user_id=u1&weight_purchase=0")
    one.until(lambda: "10 items" in one.find("#status").text)
    before = one.items()
    one.slide("weight_purchase", 80)
    one.until(lambda: one.items() != before)
    assert one.wish()["weight_purchase"] == ["80"]
    assert one.find("#n-weight_purchase").get_attribute("value") == "80"
    revenue = one.find("[data-measure=revenue]").text
    assert "Expected revenue" in revenue
    assert "−" in revenue or "+" in revenue
    assert one.read("document.querySelectorAll('.badge').length > 0")
    # Bars: each as wide as its part, the widest row full.
    widths = one.read(
        "[...document.querySelectorAll('.bar')].map(b => [...b.children]"
        ".reduce((s, i) => s + parseFloat(i.style.width), 0))"
    )
    assert max(widths) == pytest.approx(100, abs=0.01)
    after = one.items()
    # A shared link shows the same; the button brings the model's own values back.
    assert one.open(urlsplit(one.browser.current_url).query.join(["/?", ""])).items() == after
    one.find("#reset").click()
    own = one.until(lambda: one.items() if "weight_purchase" not in one.wish() else None)
    one.until(lambda: one.read("!document.querySelector('.badge')"))
    assert one.find("#n-weight_purchase").get_attribute("value") == "20"
    assert own


def test_choices_block_and_fallback(one: Page, shop: Shop) -> None:
    one.open("/?user_id=u1")
    assert one.items()
    box = one.find("details#c-among_category")
    box.find_element(By.TAG_NAME, "summary").click()
    box.find_element(By.CSS_SELECTOR, "input[value=toys]").click()
    one.until(lambda: one.wish().get("among_category") == ["toys"])
    toys = one.until(
        lambda: (
            one.items()
            if one.items() and all((shop.about(i) or {})["category"] == "toys" for i in one.items())
            else None
        )
    )
    one.find("ol.rows .side button").click()
    one.until(lambda: one.wish().get("exclude") == [toys[0]])
    one.until(lambda: toys[0] not in one.items())
    one.find("#exclude-chips button").click()
    one.until(lambda: toys[0] in one.items())
    one.open("/?query=nosuchword")
    assert "most popular" in one.find(".fallback").text
    assert "from fallback" in one.find("ol.rows li").text
    # A choice that nothing passes gives way, and the page says so.
    one.open("/?among_category=nosuchcategory&k=4")
    assert len(one.items()) == 4
    assert (
        one.find(".fallback").text == "Nothing passes the choice of category: 4 items outside it."
    )
    assert one.complaints() == []


def test_a_typed_history_and_diversity(one: Page, shop: Shop) -> None:
    one.open()
    one.items()
    field = one.find("#history")
    field.send_keys(shop.title("i9"))
    one.until(lambda: field.get_attribute("aria-busy") is None)
    field.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    one.until(lambda: one.wish() == {"history": ["i9"]})
    assert shop.title("i9") in one.find("#history-chips").text
    Select(one.find("#by")).select_by_visible_text("style")
    measure = "document.querySelector('[data-measure=diversity]')?.textContent"
    one.until(lambda: "Diversity by style" in (one.read(measure) or ""))


def test_errors_are_told_in_the_page(one: Page) -> None:
    one.open("/?k=1000")
    told = one.until(lambda: one.find("#error").text)
    assert told == "k is a whole number from 1 to 100; got '1000'"


def test_titles_are_text_never_markup(browser: Any, tables: Tables, folder: Path) -> None:
    class Hostile(FakeRecommender):
        def __init__(self, tables: Tables) -> None:
            super().__init__(tables, "<b>bold</b>/1")
            self.titles = ["<img src=x onerror=\"document.title='pwned'\">"] * len(self.ids)

    with serving(Explorer([Hostile(tables)], Shop(folder))) as url:
        page = Page(browser, url).open()
        assert page.items()
        assert page.find(".what a").text.startswith("<img src=x")
        assert page.read("document.title") == "tfrec explorer"
        assert "<b>bold</b>/1" in page.find("header").text


def test_two_models_side_by_side(browser: Any, tables: Tables, shop: Shop) -> None:
    models = [FakeRetrieval(tables), FakeRetrieval(tables, "plain/2", reverse=True)]
    with serving(Explorer(models, shop)) as url:
        page = Page(browser, url).open("/?user_id=u1&k=40")
        first, second = page.items(0), page.items(1)
        shared = set(first) & set(second)
        assert f"{len(shared)} in both lists" in page.find("#status").text
        headings = [h.text for h in browser.find_elements(By.CSS_SELECTOR, ".list h2")]
        assert headings == ["plain/1", "plain/2"]
        for row in browser.find_elements(By.CSS_SELECTOR, ".list:first-child .row"):
            item = row.get_attribute("data-item")
            there = f"there at {second.index(item) + 1}" if item in shared else "only here"
            assert there in row.text or "same place" in row.text
        # A plain model has no knobs, so none are drawn.
        assert not page.find("#knobs").is_displayed()
        assert not page.find("#choices").is_displayed()


def test_two_recommenders_tell_their_own_weights(browser: Any, tables: Tables, shop: Shop) -> None:
    dear = FakeRecommender(tables, "fake/2", configured={"weight_purchase": 3.0})
    with serving(Explorer([FakeRecommender(tables), dear], shop)) as url:
        page = Page(browser, url).open("/?user_id=u1")
        assert page.items()
        assert page.find("#d-weight_purchase").text == "default 20 and 3"
        assert page.find("#d-weight_revenue").text == "default 1"


def test_the_page_of_an_item(one: Page, shop: Shop) -> None:
    one.open("/?user_id=u1&k=5")
    item = one.items()[0]
    one.find(".what a").click()
    one.until(lambda: f"/item/{item}" in one.browser.current_url)
    one.until(lambda: shop.title(item) in one.find(".list h2").text)
    assert len(one.items()) > 0
    one.until(lambda: one.read("document.querySelector('.hero img').naturalWidth") == 16)
    one.browser.find_element(By.LINK_TEXT, "Back to the list").click()
    one.until(lambda: one.wish() == {"user_id": ["u1"], "k": ["5"]})


def test_a_phone_shows_the_list_without_sideways_scrolling(one: Page) -> None:
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    one.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        one.open("/?user_id=u1")
        assert one.items()
        assert one.read("document.documentElement.scrollWidth") <= 390
        assert not one.find("#knobs").is_displayed()
        one.find("#more summary").click()
        one.until(one.find("#knobs").is_displayed)
    finally:
        one.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_control_has_a_name(one: Page) -> None:
    one.open("/?user_id=u1")
    assert one.items()
    nameless = one.read(
        "[...document.querySelectorAll('input, select, button')].filter(n => !(n.labels?.length"
        " || n.getAttribute('aria-label') || n.textContent.trim())).map(n => n.outerHTML)"
    )
    assert nameless == []
