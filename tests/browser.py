"""A headless Chromium to try pages in, by Playwright; tests that need one say so where there is none."""

import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; the page is then not tried in a browser")

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PATIENCE = 60  # seconds for anything: a busy machine is slow, a hanging one is a failure


class Browser:
    """One page of a Chromium of its own. `problems` collects what goes wrong in it: console, network, exceptions."""

    def __init__(self, profile):
        from playwright.sync_api import sync_playwright

        self.problems, self._playwright = [], sync_playwright().start()
        self._context = self._playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=ARGUMENTS, timeout=1000 * PATIENCE
        )
        self.page = self._context.pages[0]
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("requestfailed", lambda request: self.problems.append(f"error: {request.url} {request.failure}"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._context.close()
        self._playwright.stop()

    def open(self, url, width=1200, height=900):
        """Load an address, or a file, in a window of that size; returns when it and its pictures are there."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.goto(url if "://" in str(url) else f"file://{url}")

    def evaluate(self, expression):
        """The value of a JavaScript expression, awaited where it is a promise."""
        return self.page.evaluate(expression)

    def wait(self, expression):
        """The first value of the expression that is true in JavaScript's sense."""
        return self.page.wait_for_function(expression).json_value()
