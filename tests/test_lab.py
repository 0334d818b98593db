"""JupyterLab, as `make lab` starts it: a notebook opens with the right kernel, "Run All" works, formulas show."""

import json
import os
import subprocess
import sys
import time

import nbformat
import pytest
from browser import PATIENCE, Browser, needs_chromium

from mnistmp import paths

NAME = "01_dataset"  # it trains nothing, and on the embedded digits it needs no network

# Of the notebook in front: nothing while a cell is waiting or running, unless one has failed.
STATE = """(() => {
  const panel = jupyterapp.shell.currentWidget, cells = panel.content.widgets.map(cell => cell.model);
  const code = cells.filter(cell => cell.type === "code"), outputs = code.flatMap(cell => cell.outputs.toJSON());
  const busy = panel.sessionContext.session.kernel.status !== "idle" || code.some(cell => !cell.executionCount);
  if (busy && !outputs.some(output => output.output_type === "error")) return null;
  return {counts: code.map(cell => cell.executionCount), outputs};
})()"""


def is_picture(output):
    return "image/png" in output.get("data", {})


@pytest.mark.slow
@needs_chromium
def test_a_notebook_runs_all_in_jupyterlab(tmp_path):
    notebook = nbformat.read(paths.notebooks() / f"{NAME}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = sum(is_picture(output) for cell in code for output in cell.outputs)
    for cell in code:
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
        with Browser(tmp_path / "profile") as browser:
            browser.open(f"http://127.0.0.1:{about['port']}/lab/tree/{NAME}.ipynb?token={about['token']}", 1400, 1000)
            browser.wait("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
            kernel = browser.evaluate("jupyterapp.shell.currentWidget.sessionContext.kernelDisplayName")
            assert kernel.startswith("Python 3")
            browser.evaluate("jupyterapp.commands.execute('runmenu:run-all'), null")
            state = browser.wait(STATE)
            browser.wait("!!document.querySelector('mjx-container')")
            assert not [problem for problem in browser.problems if problem.startswith(("error", "{"))]
    finally:
        server.terminate()  # it ends its kernels
        server.wait(PATIENCE)
    outputs = state["outputs"]
    assert not [one for one in outputs if one["output_type"] == "error" or one.get("name") == "stderr"]
    assert state["counts"] == list(range(1, len(code) + 1))
    assert sum(map(is_picture, outputs)) == pictures > 0
