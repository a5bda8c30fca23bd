"""The page of a folder in a real browser: Debian's Chromium, without a window, one session for all.

Without Chromium these tests are skipped, loudly; with NANOREPRO_CHROMIUM=1, as `.ci/run` has it,
they fail.  NANOREPRO_SCREENSHOTS=FOLDER keeps what the browser showed.
"""

import json
import os
import shutil
import struct
from importlib import import_module
from pathlib import Path

import pytest
from support.folders import entry_of, fill, grid

from nanorepro.sweeps import report
from nanorepro.sweeps.folder import Folder

NEEDED = bool(os.environ.get("NANOREPRO_CHROMIUM"))
webdriver = (
    import_module("selenium.webdriver") if NEEDED else pytest.importorskip("selenium.webdriver")
)
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--hide-scrollbars", "--no-first-run", "--disable-background-networking")  # fmt: skip
LOGS = {"browser": "ALL", "performance": "ALL"}
GRID = grid(
    act=["identity", "relu", "smelu", "swish"], log2_window=[0, 5, 10], seed=[0, 1], pairs=[8]
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The file, of a sweep in which a run is missing."""
    folder = Folder(tmp_path_factory.mktemp("of") / "runs")
    fill(folder.path, [entry_of(config) for config in GRID[:-1]])
    command = "python -m nanorepro.sweep --grid act=identity,relu,smelu,swish ..."
    folder.remember(command, GRID)
    folder.fail(GRID[-1], "<img src=x onerror=alert(1)>", 3)
    path = folder.path / "report.html"
    path.write_bytes(report.report(folder))
    return path


@pytest.fixture(scope="module")
def browser():
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        missing = "no chromium or no chromedriver: apt-get install chromium chromium-driver"
        if NEEDED:
            pytest.fail(missing)
        pytest.skip(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", LOGS)
    made = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield made
    made.quit()


@pytest.fixture
def opened(browser, page):
    """The page, opened anew on a wide screen in light colours, with nothing kept of the last."""
    show(browser, 1280, 900)
    media(browser, "light")
    browser.get("about:blank")
    browser.get(page.as_uri())
    browser.execute_script("localStorage.clear(); delete document.documentElement.dataset.theme")
    return browser


@pytest.fixture(autouse=True)
def nothing_went_wrong(browser, page):
    """No line in the console, and no request but for the page itself."""
    yield
    assert browser.get_log("browser") == []
    for line in browser.get_log("performance"):
        message = json.loads(line["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            assert url.startswith((page.as_uri(), "about:", "data:,")), url


def show(browser, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def media(browser, scheme, kind=""):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": features})


def picture(browser, name, whole=True):
    """What the browser shows, as PNG; kept where that is wanted."""
    if whole:
        width, height = browser.execute_script(
            "const e = document.documentElement; return [innerWidth, e.scrollHeight]"
        )
        show(browser, width, min(height, 4000))
    data = browser.get_screenshot_as_png()
    if folder := os.environ.get("NANOREPRO_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{name}.png").write_bytes(data)
    return data


def css(browser, selector, name):
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return browser.execute_script(script, selector, name)


def column(browser, number):
    """The texts of a column, of the runs that are shown."""
    script = """
        return [...document.getElementById("runs").tBodies].filter((b) => b.offsetHeight)
            .map((b) => b.rows[0].cells[arguments[0]].innerText.split("\\n")[0])"""
    return browser.execute_script(script, number)


def head(browser, name):
    for number, cell in enumerate(browser.find_elements("css selector", "#runs thead th")):
        if cell.text.startswith(name):
            return number, cell
    raise AssertionError(name)


def press(browser, element, key):
    browser.execute_script("arguments[0].focus()", element)
    browser.switch_to.active_element.send_keys(key)


def test_a_column_is_sorted_by_the_mouse_and_by_the_keyboard(opened):
    number, cell = head(opened, "relative PD")
    button = cell.find_element("css selector", "button")
    assert cell.get_attribute("aria-sort") == "none"
    button.click()
    assert cell.get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in column(opened, number)]
    assert values == sorted(values) and len(values) == len(GRID) - 1 and len(set(values)) > 9
    press(opened, button, "\ue007")  # Enter
    assert cell.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(opened, number)] == values[::-1]
    number, other = head(opened, "act")
    press(opened, other.find_element("css selector", "button"), " ")
    assert other.get_attribute("aria-sort") == "ascending"
    assert cell.get_attribute("aria-sort") == "none"
    assert column(opened, number) == sorted(column(opened, number))


def test_runs_are_filtered_by_value_word_and_state(opened):
    act, _ = head(opened, "act")
    select = opened.find_element("css selector", f"select[data-column='{act}']")
    select.find_element("css selector", "option[value=relu]").click()
    assert column(opened, act) == ["relu"] * 6
    assert opened.find_element("id", "count").text == "6 of 23 runs are shown"
    words = opened.find_element("name", "words")
    words.send_keys("--LOG2-window")  # of the command: all but those of z = 1
    assert len(column(opened, act)) == 4
    words.clear()
    words.send_keys("relu")  # which the command of the sweep has, of all runs
    opened.find_element("css selector", f"select[data-column='{act}'] option").click()
    assert column(opened, act) == ["relu"] * 6
    last = next(c for c in reversed(GRID) if c.act == "relu")
    words.send_keys(f" {entry_of(last).fingerprint[:12].upper()}")
    assert column(opened, 0) == [last.id]
    words.send_keys(" nonsense")
    assert column(opened, act) == []
    opened.find_element("css selector", "#filters button").click()
    assert len(column(opened, act)) == 23
    assert opened.find_element("id", "count").text == "23 of 23 runs are shown"
    opened.find_element("name", "odd").click()
    odd = [e for e in map(entry_of, GRID[:-1]) if any(map(any, e.measures["stuck"]))
           or any(map(any, e.measures["diverged"]))]  # fmt: skip
    assert sorted(column(opened, 0)) == sorted(e.id for e in odd) and 0 < len(odd) < 23


def test_a_run_shows_all_that_is_known_of_it(opened):
    entry = entry_of(GRID[3])
    button = opened.find_element("css selector", f"#run-{entry.id} button")
    more = opened.find_element("id", f"of-{entry.id}")
    assert not more.is_displayed() and button.get_attribute("aria-expanded") == "false"
    press(opened, button, " ")
    assert more.is_displayed() and button.get_attribute("aria-expanded") == "true"
    for text in (entry.fingerprint, entry.provenance["command"], entry.provenance["cpu"]):
        assert text in more.text
    press(opened, button, "\ue007")
    assert not more.is_displayed()


def test_a_point_of_a_graph_leads_to_its_run(opened):
    entry = entry_of(GRID[0])
    opened.find_element("name", "words").send_keys("relu")  # of which it is none
    link = opened.find_element("css selector", f"figure a[href='#run-{entry.id}']")
    assert entry.id in link.find_element("css selector", "title").get_attribute("textContent")
    opened.execute_script(
        "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))",
        link.find_element("css selector", "circle"),
    )
    more = opened.find_element("id", f"of-{entry.id}")
    deadline = 50
    while not more.is_displayed() and deadline:
        opened.execute_async_script("requestAnimationFrame(arguments[0])")
        deadline -= 1
    assert more.is_displayed() and len(column(opened, 0)) == 23


def turns(browser, colour):
    """Whether the page's background is of a colour, now or within some frames."""
    for _ in range(50):
        if css(browser, "body", "backgroundColor") == colour:
            return True
        browser.execute_async_script("requestAnimationFrame(arguments[0])")
    return False


def test_dark_by_the_system_and_by_the_switch_that_is_kept(opened, page):
    light = css(opened, "body", "backgroundColor"), css(opened, "body", "color")
    axis = "figure svg text"
    assert light[0] == "rgb(255, 255, 255)" and css(opened, axis, "fill") == light[1]
    media(opened, "dark")
    dark = css(opened, "body", "backgroundColor"), css(opened, "body", "color")
    assert dark[0] == "rgb(20, 23, 26)" and css(opened, axis, "fill") == dark[1]
    opened.find_element("id", "theme").click()
    assert turns(opened, light[0]) and css(opened, "body", "color") == light[1]
    opened.get("about:blank")
    opened.get(page.as_uri())
    assert turns(opened, light[0])
    opened.find_element("id", "theme").click()
    assert turns(opened, dark[0])


@pytest.mark.parametrize("name, width, scheme", [
    ("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light"),
])  # fmt: skip
def test_it_fits_the_screen(opened, name, width, scheme):
    show(opened, width, 900)
    media(opened, scheme)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    outside = """
        return [...document.querySelectorAll("figure svg text")].filter((text) => {
            const inner = text.getBoundingClientRect();
            const outer = text.closest("figure").getBoundingClientRect();
            return inner.left < outer.left || inner.right > outer.right;
        }).map((text) => text.textContent)"""
    assert opened.execute_script(outside) == []
    smallest = opened.execute_script("""
        return Math.min(...[...document.querySelectorAll("figure svg text")].map((text) =>
            parseFloat(getComputedStyle(text).fontSize) *
            Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b)))""")
    assert smallest >= 8.0
    data = picture(opened, name)
    assert struct.unpack(">II", data[16:24])[0] == width and len(data) > 50_000


def test_on_paper_there_is_no_control_and_no_scrolling(opened):
    media(opened, "dark", "print")
    assert css(opened, "body", "backgroundColor") == "rgb(255, 255, 255)"
    assert css(opened, "#filters", "display") == css(opened, "#theme", "display") == "none"
    assert css(opened, ".scroll.runs", "overflow") == "visible"
    picture(opened, "print")


def test_what_is_hostile_is_text(opened):
    assert opened.find_elements("css selector", "img, [onerror]") == []
    assert "failed, tried 3 times: <img src=x onerror=alert(1)>" in opened.page_source.replace(
        "&lt;", "<"
    ).replace("&gt;", ">")
