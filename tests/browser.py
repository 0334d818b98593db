"""A headless Chromium to try pages in, over its DevTools protocol; tests that need one say so where there is none."""

import base64
import itertools
import json
import shutil
import subprocess
import time

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; the page is then not tried in a browser")

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--remote-debugging-port=0", "about:blank"]  # fmt: skip
PATIENCE = 60  # seconds for anything: a busy machine is slow, a hanging one is a failure


class Browser:
    """One page of a Chromium of its own. `problems` collects what goes wrong in it: console, network, exceptions."""

    def __init__(self, profile):
        from websocket import create_connection  # of websocket-client, which Jupyter's server needs

        self.problems, self._number, self._session = [], itertools.count(1), None
        self._process = subprocess.Popen([CHROMIUM, f"--user-data-dir={profile}", *ARGUMENTS],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            port, path = self._address(profile / "DevToolsActivePort")
            url = f"ws://127.0.0.1:{port}{path}"
            self._socket = create_connection(url, timeout=PATIENCE, suppress_origin=True, http_no_proxy=["127.0.0.1"])
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self._process.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(PATIENCE)

    def open(self, url, width=1200, height=900):
        """Load an address, or a file, in a window of that size; returns when it and its pictures are there."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, screenWidth=width,
                  screenHeight=height, deviceScaleFactor=1, mobile=mobile)  # fmt: skip
        self._loaded = False
        failure = self.call("Page.navigate", url=url if "://" in str(url) else f"file://{url}").get("errorText")
        assert not failure, failure
        while not self._loaded:
            self._receive()

    def evaluate(self, expression):
        """The value of a JavaScript expression, awaited where it is a promise."""
        made = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in made, made["exceptionDetails"]
        return made["result"].get("value")

    def wait(self, expression):
        """The first value of the expression that is true in JavaScript's sense."""
        end = time.monotonic() + PATIENCE
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} did not become true"
            time.sleep(0.05)
        return value

    def screenshot(self, path):
        """Write a PNG of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method, **params):
        """One command of the DevTools protocol; its result."""
        number = next(self._number)
        message = {"id": number, "method": method, "params": params}
        self._socket.send(json.dumps({**message, "sessionId": self._session} if self._session else message))
        while (answer := self._receive()).get("id") != number:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _receive(self):
        message = json.loads(self._socket.recv())
        about = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.problems.append(str(about["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.problems.append(f"{about['type']}: {[one.get('value') for one in about['args']]}")
            case "Log.entryAdded":
                self.problems.append(f"{about['entry']['level']}: {about['entry']['text']}")
        return message

    def _address(self, path):
        end = time.monotonic() + PATIENCE
        while not (path.exists() and len(lines := path.read_text().splitlines()) == 2):
            assert time.monotonic() < end and self._process.poll() is None, "Chromium does not start"
            time.sleep(0.05)
        return lines
