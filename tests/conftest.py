"""The table that `make test-faults` ends with: what was tried, and what became of finished records."""

import os
import signal

import pytest
from fault_table import Ledger, Table

# Before torch is imported: tests fork, and a process that is forked while several threads compute may wait for ever.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_TABLE = pytest.StashKey[Table]()


def pytest_configure(config):
    # A shell starts what it puts in the background with Ctrl-C ignored, and so would the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_TABLE] = Table()


@pytest.fixture
def fault_table(request, tmp_path):
    """Takes a line per fault: `add(fault, message, ledger, tried=1)`; it fails on anything lost or counted twice."""
    return request.config.stash[_TABLE].of(tmp_path)


@pytest.fixture
def ledger(tmp_path):
    """The finished records of `tmp_path/results`, which may only grow."""
    return Ledger(tmp_path / "results")


def pytest_terminal_summary(terminalreporter, config):
    text = config.stash[_TABLE].to_markdown()
    if text:
        terminalreporter.section("faults")
        terminalreporter.write_line(text)
