"""JupyterLab in a real browser, and what can be seen there: the tools of test_browser.py."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, TimeoutError, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE = 400  # seconds; a busy machine needs many times what an idle one does

SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # keep all outputs in the page
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}
#: JupyterLab's body has no height and hides what overflows it, so that axe takes the whole page for hidden.
VISIBLE_TO_AXE = "body { height: 100vh }"
#: ipywidgets gives the handles of its sliders no name, and Python cannot: we ask for a label beside them instead.
#: JupyterLab makes links of the paths in a library's warnings, in colours of its own.
OUTPUTS = {
    "include": [[".jp-OutputArea-output"]],
    "exclude": [[".noUi-handle"], ["[data-mime-type='application/vnd.jupyter.stderr'] a"]],
}
#: An output of a cell itself, not of a widget in it.
OF_A_CELL = ".jp-Cell-outputArea > .jp-OutputArea-child > .jp-OutputArea-output"
#: All that stands around a slider: words, numbers, pictures, but no slider and its own number.
AROUND = """handle => {
  if (!handle.isConnected) return 'gone';
  const nodes = [...handle.closest('.jp-Cell-outputArea').querySelectorAll('*')];
  return nodes.filter(node => !node.closest('.widget-slider')).map(node =>
    node.matches('img') ? node.src : node.matches('canvas') ? node.toDataURL() :
    node.matches('svg') ? node.outerHTML : node.matches('input, textarea') ? node.value :
    [...node.childNodes].map(child => child.nodeType === Node.TEXT_NODE ? child.data : '').join('')
  ).join('\\n');
}"""


@contextlib.contextmanager
def jupyterlab(root: Path, home: Path) -> Iterator[str]:
    """JupyterLab on the folder `root`, with settings and kernels that know nothing of the user; its address."""
    settings = home / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS))
    names = ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "COURSE_PROGRESS"]
    names += ["JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"]
    folders = {name: str(home / name.removeprefix("JUPYTER_").removesuffix("_DIR").lower()) for name in names}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={root}"]
    command += ["--ServerApp.port=0", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    with open(home / "log.txt", "w") as log:
        server = subprocess.Popen(command, env=os.environ | {"HOME": str(home)} | folders, stdout=log, stderr=log)
    try:
        yield address(server, home)
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


def address(server: subprocess.Popen, home: Path) -> str:
    """Where JupyterLab answers, as soon as it does: it writes its address before it listens there."""
    for _look in range(PATIENCE * 5):
        for file in home.glob("runtime/jpserver-*.json"):
            with contextlib.suppress(ValueError, OSError):  # half written, or not listening yet
                url = json.loads(file.read_text())["url"]
                urllib.request.urlopen(f"{url}api").close()
                return url
        if server.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError("JupyterLab did not start:\n" + (home / "log.txt").read_text()[-3000:])


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments, timeout=PATIENCE * 1000)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, url: str, path: str) -> Iterator[Page]:
    """A notebook that is open and has a kernel; nothing of it has run."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"{url}lab/tree/{path}?reset")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
    try:
        yield page
    finally:
        page.evaluate("() => { window.jupyterapp.shell.currentWidget.sessionContext.shutdown() }")
        page.wait_for_timeout(500)
        page.close()


@contextlib.contextmanager
def notebook(browser: Browser, url: str, path: str) -> Iterator[Page]:
    """A notebook that is open and has been run from top to bottom, in a window in which all of it can be seen."""
    with opened(browser, url, path) as page:
        page.evaluate(
            """seconds => Promise.race([
              window.jupyterapp.commands.execute('notebook:run-all-cells'),
              new Promise((_, fail) => setTimeout(() => fail(`the cells need more than ${seconds} s`), 1000 * seconds)),
            ])""",
            PATIENCE,
        )
        with contextlib.suppress(TimeoutError):  # what is never drawn, the tests will tell
            page.wait_for_function(
                """() => [...document.querySelectorAll('.jp-Notebook img')].every(img => img.complete) &&
                  !document.querySelector('.jp-Notebook').textContent.includes('Loading widget')""",
                timeout=30_000,
            )
        page.add_style_tag(content=VISIBLE_TO_AXE)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        last = page.locator(".jp-Notebook .jp-Cell").last
        bottom = last.evaluate("cell => cell.offsetTop + cell.offsetHeight")
        page.set_viewport_size({"width": 1280, "height": min(int(bottom) + 200, 30_000)})
        page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
        yield page


def start(page: Page, number: int) -> None:
    """Begin to run a cell; wait for nothing."""
    page.evaluate(
        """number => {
          window.jupyterapp.shell.currentWidget.content.activeCellIndex = number;
          window.jupyterapp.commands.execute('notebook:run-cell');
        }""",
        number,
    )


def wait_for(page: Page, number: int, text: str) -> None:
    """Wait until a cell shows this text."""
    page.wait_for_function(
        "([number, text]) => document.querySelectorAll('.jp-Cell')[number].innerText.includes(text)",
        arg=[number, text],
    )


def wait_until_idle(page: Page) -> None:
    """Wait until the kernel has ended what it was asked for. After an error it drops what comes at the same moment."""
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )
    page.wait_for_timeout(500)


def cells(page: Page) -> list[dict]:
    """The code cells with their outputs, as the browser has them."""
    model = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON()")
    return [cell for cell in model["cells"] if cell["cell_type"] == "code"]


def count(page: Page, kind: str) -> tuple[int, int]:
    """How many of an HTML element the outputs hold, and how many of them the page shows."""
    shown = [output.get("data", {}) for cell in cells(page) for output in cell["outputs"]]
    plain = [data for data in shown if not any("widget-view" in mime for mime in data)]  # else the widget is shown
    held = sum("".join(data.get("text/html", "")).count(f"<{kind}") for data in plain)
    return held, page.locator(f"{OF_A_CELL}[data-mime-type='text/html'] {kind}:visible").count()


def views(page: Page) -> tuple[int, int]:
    """How many widgets the cells ask for, and how many of them are drawn."""
    shown = [kind for cell in cells(page) for output in cell["outputs"] for kind in output.get("data", ())]
    drawn = page.locator(f"{OF_A_CELL} > .jupyter-widgets:visible").count()
    return sum("widget-view" in kind for kind in shown), drawn


def faults(page: Page, theme: str) -> list[str]:
    """What axe finds in the outputs that is serious or critical: each rule with the HTML that breaks it."""
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)
    page.wait_for_timeout(1000)  # colours fade
    found = Axe().run(page, context=OUTPUTS).response["violations"]
    return [
        "\n  ".join([f"{one['id']}: {one['help']}", *(f"{n['html']}\n    {n['failureSummary']}" for n in one["nodes"])])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def label(handle: Locator) -> str:
    return handle.evaluate("handle => handle.closest('.widget-slider').querySelector('.widget-label').textContent")


def sliders(page: Page) -> list[Locator]:
    """The handles of all sliders that can be moved."""
    return page.locator(".jp-OutputArea-output .noUi-target:not([disabled]) .noUi-handle").all()


def dead_sliders(page: Page, patience: float = 20) -> list[str]:
    """Move each slider with the keyboard; the labels of those that change nothing around them in so many seconds."""
    return [label(handle) for handle in sliders(page) if not moves_something(page, handle, patience)]


def moves_something(page: Page, handle: Locator, patience: float) -> bool:
    before = None
    for _look in range(20):  # until what was moved earlier has come to rest
        if before == (before := handle.evaluate(AROUND)):
            break
        page.wait_for_timeout(400)
    value, element = handle.get_attribute("aria-valuenow"), handle.element_handle()
    for key in ("ArrowRight", "ArrowLeft"):  # to the left if it stands at the end
        if handle.get_attribute("aria-valuenow") == value:
            for _press in range(3):
                handle.press(key)
    try:
        changed = f"([handle, before]) => ({AROUND})(handle) !== before"
        page.wait_for_function(changed, arg=[element, before], timeout=1000 * patience)
    except TimeoutError:
        return False
    return True
