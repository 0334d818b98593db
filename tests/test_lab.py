"""JupyterLab, as `make lab` starts it: a notebook opens with the right kernel, "Run All" works, formulas show."""

import json
import os
import shutil
import subprocess
import sys
import time

import nbformat
import pytest

from browser import PATIENCE, Browser, needs_chromium
from mnistmp import paths
from test_notebooks import IMAGES

NAME = "01_dataset"  # it trains nothing, and on the embedded digits it needs no network

# Of the notebook in front: nothing while a cell is waiting or running, unless one has failed.
STATE = """(() => {
  const panel = jupyterapp.shell.currentWidget, cells = panel.content.widgets.map(cell => cell.model);
  const code = cells.filter(cell => cell.type === "code"), outputs = code.flatMap(cell => cell.outputs.toJSON());
  const busy = panel.sessionContext.session.kernel.status !== "idle" || code.some(cell => !cell.executionCount);
  if (busy && !outputs.some(output => output.output_type === "error")) return null;
  return {counts: code.map(cell => cell.executionCount), outputs};
})()"""

# JupyterLab renders what is in view, so each text cell is brought there.
FORMULAS = """(async () => {
  const notebook = jupyterapp.shell.currentWidget.content;
  let made = 0;
  for (const [at, cell] of notebook.widgets.entries()) {
    if (cell.model.type !== "markdown") continue;
    notebook.activeCellIndex = at;
    await notebook.scrollToItem(at);
    const written = (cell.model.sharedModel.source.match(/\\$[^$]+\\$/g) || []).length;
    for (let wait = 0; wait < 100 && cell.node.querySelectorAll("mjx-container").length < written; wait++)
      await new Promise(done => setTimeout(done, 50));
    made += cell.node.querySelectorAll("mjx-container").length;
  }
  return made;
})()"""


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab that knows nothing of this user's settings and holds one notebook."""
    notebook = nbformat.read(paths.notebooks() / f"{NAME}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = cell.source.replace('preset: str = "paper"', 'preset: str = "digits"')
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / f"{NAME}.ipynb")
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MNISTMP_RESULTS",
              "MNISTMP_FIGURES")  # fmt: skip
    environment = {**os.environ, "MPLBACKEND": "", **{name: str(tmp_path / name) for name in places}}
    offline = ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0", "--allow-root",
               "--expose-app-in-browser", *offline, str(tmp_path / "notebooks")]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        end = time.monotonic() + PATIENCE
        while not (found := list((tmp_path / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"))):
            assert time.monotonic() < end and server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        about = json.loads(found[0].read_text())
        yield f"http://127.0.0.1:{about['port']}/lab/tree/{NAME}.ipynb?token={about['token']}"
    finally:
        server.terminate()  # it ends its kernels
        server.wait(PATIENCE)
        shutil.rmtree(tmp_path / "profile", ignore_errors=True)


@pytest.mark.slow
@needs_chromium
def test_a_notebook_runs_all_in_jupyterlab(lab, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.open(lab, 1400, 1000)
        browser.wait("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
        kernel = browser.evaluate("jupyterapp.shell.currentWidget.sessionContext.kernelDisplayName")
        assert kernel.startswith("Python 3")
        browser.evaluate("jupyterapp.commands.execute('runmenu:run-all'), null")
        state = browser.wait(STATE)
        assert not [one for one in state["outputs"] if one["output_type"] == "error" or one.get("name") == "stderr"]
        assert state["counts"] == list(range(1, len(state["counts"]) + 1))
        pictures = [one for one in state["outputs"] if "image/png" in one.get("data", {})]
        assert len(pictures) == IMAGES[NAME]
        source = (paths.notebooks() / f"{NAME}.ipynb").read_text(encoding="utf-8")
        assert browser.evaluate(FORMULAS) == source.count("$") // 2 > 0
        assert not [problem for problem in browser.problems if problem.startswith(("error", "{"))]
