"""A learner's first minutes with step 6 in a real browser: JupyterLab as `learn` opens it, in headless Chromium.

COURSE_SCREENSHOTS=FOLDER keeps what was on the screen after each act.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course import authoring, steps
from course.machine import doctor
from tests.conftest import absent
from tests.test_notebooks import LEFT_OUT

CHROMIUM, DRIVER = doctor.program("chromium"), doctor.program("chromium-driver")
pytestmark = pytest.mark.slow
PATIENCE = 120  # seconds for a server, a page or a cell

SOLVED = """self.linear_1 = nn.Linear(vision_dim, text_dim)
        self.linear_2 = nn.Linear(text_dim, text_dim)"""
FIRST, TEST = "notebook.begin()", "model_exercise.test_projection()"  # what tells these two cells from others


@pytest.fixture(scope="module", autouse=True)
def programs():
    if not CHROMIUM or not DRIVER:
        absent("no Chromium with its chromedriver: python3 -m course doctor says how to get them")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("browser") / "a course"  # a folder with a space in it
    shutil.copytree(steps.ROOT, root, ignore=LEFT_OUT)
    for step in steps.ROOMS:
        text = authoring.generate(step.file("solution").read_text(encoding="utf-8"), step)
        (root / step.name / "model_exercise.py").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Jupyter without the settings of whoever runs the test."""
    home = tmp_path_factory.mktemp("jupyter")
    own = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    return {
        **os.environ,
        **own,
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "COURSE_PRESET": "smoke",
        "OMP_NUM_THREADS": "2",
    }


@pytest.fixture(scope="module")
def address(repository, environment, tmp_path_factory):
    """Where `learn step6` serves its lesson."""
    log = tmp_path_factory.mktemp("log") / "jupyter.txt"
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "course", "learn", "step6", "--", "--no-browser", "--ServerApp.port=0"],
            cwd=repository,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        found, end = None, time.monotonic() + PATIENCE
        while not found and time.monotonic() < end and server.poll() is None:
            time.sleep(0.2)
            found = re.search(
                r"http://(?:127\.0\.0\.1|localhost):\d+/lab/tree/step6_vlm/tutorial\.ipynb\?token=\w+", log.read_text()
            )
        assert found, log.read_text()
        yield found[0]
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1300,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """The lesson in the browser: its cells are found by their code and run with Shift-Enter, as a learner does."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get(address)
        self.wait(lambda: self.script("return document.querySelectorAll('.jp-Notebook .jp-Cell').length > 3"))

    def script(self, text, *arguments):
        return self.browser.execute_script(text, *arguments)

    def wait(self, found):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            value = found()
            if value:
                return value
            time.sleep(0.2)
        raise AssertionError(
            f"not within {PATIENCE} s; the page says:\n{self.script('return document.body.innerText')}"
        )

    def cell(self, code):
        """The code cell with this text, scrolled into view. A long notebook holds only what is near the view."""

        def look():
            found = self.script(
                """
                for (const cell of document.querySelectorAll('.jp-Notebook .jp-CodeCell'))
                    if (cell.querySelector('.cm-content')?.textContent.includes(arguments[0])) {
                        cell.scrollIntoView({block: 'center'});
                        return cell;
                    }
                const outer = document.querySelector('.jp-WindowedPanel-outer');
                outer.scrollTop += outer.scrollTop + 300 < outer.scrollHeight - outer.clientHeight
                    ? 300 : -outer.scrollTop;
                """,
                code,
            )
            return found

        return self.wait(look)

    def run(self, code) -> str:
        """Run a cell and return the text of its output."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        cell = self.cell(code)
        before = self.script("return arguments[0].querySelector('.jp-InputPrompt').textContent", cell)
        cell.find_element("css selector", ".cm-content").click()
        ActionChains(self.browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()

        def done():
            prompt = self.script("return arguments[0].querySelector('.jp-InputPrompt').textContent", self.cell(code))
            return re.search(r"\[\d+\]", prompt) and prompt != before

        self.wait(done)
        return self.script("return arguments[0].querySelector('.jp-OutputArea').innerText", self.cell(code))

    def color(self, code) -> str:
        """The colour of a card's edge."""
        return self.script(
            "return getComputedStyle(arguments[0].querySelector('[role=status]')).borderLeftColor", self.cell(code)
        )

    def keep(self, name):
        folder = os.environ.get("COURSE_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def write_projection(repository, init, forward):
    """Save the exercise with a learner's projection in it."""
    step = steps.find_step("step6")
    file = repository / step.name / "model_exercise.py"
    text = authoring.generate(step.file("solution").read_text(encoding="utf-8"), step)
    for body in (init, forward):
        text, count = re.subn(
            r'raise NotImplementedError\("TODO projection: .*?"\)', lambda m, body=body: body, text, count=1
        )
        assert count == 1
    file.write_text(text, encoding="utf-8")


def status_in_terminal(repository, environment) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "course", "status"],
        cwd=repository,
        env=environment,
        text=True,
        capture_output=True,
        check=True,
    )
    return next((line for line in done.stdout.splitlines() if line.split()[:1] == ["projection"]), done.stdout)


def test_untouched_wrong_and_right_in_the_browser(repository, environment, address, browser):
    page = Page(browser, address)
    page.run(FIRST)

    said = page.run(TEST)
    page.keep("1-untouched")
    assert "step6.projection not started yet" in said and "To write: Projection.__init__, Projection.forward" in said
    assert page.color(TEST) == "rgb(178, 106, 0)"  # amber

    write_projection(repository, SOLVED, "return self.linear_2(F.gelu(self.linear_1(features.mean(1))))")
    said = page.run(TEST)
    page.keep("2-wrong")
    assert "step6.projection not right yet" in said and "The patches are averaged" in said.partition("likely")[2]
    assert page.color(TEST) == "rgb(197, 34, 31)"  # red
    assert "started" in status_in_terminal(repository, environment)

    write_projection(repository, SOLVED, "return self.linear_2(F.gelu(self.linear_1(features)))")
    said = page.run(TEST)
    page.keep("3-right")
    assert "step6.projection passed" in said and page.color(TEST) == "rgb(46, 125, 50)"  # green
    assert "done" in status_in_terminal(repository, environment)
