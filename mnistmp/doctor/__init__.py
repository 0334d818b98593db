"""`mnistmp doctor`: can this machine run it? What was found, line by line, and where it is not well what to do.

Nothing is downloaded, and nothing that may be broken is imported here: see `probe.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from mnistmp.doctor import machine, software
from mnistmp.doctor.finding import Finding


def examine() -> Iterator[Finding]:
    """All findings, the quick ones first."""
    yield software.python()
    yield from software.packages()
    yield software.notebooks()
    yield from machine.places()
    yield machine.processors()
    yield machine.memory()
    yield software.kernel()
    yield from software.probed()


def doctor(as_json: bool = False) -> int:
    """Print all findings; 1 if there is an error among them, else 0."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            print(f"{finding.level:8} {finding.name}: {finding.text}", flush=True)
            if finding.remedy:
                print(f"{'':8} -> {finding.remedy}", flush=True)
    errors, warnings = (sum(finding.level == level for finding in findings) for level in ("error", "warning"))
    if as_json:
        print(json.dumps({"ok": not errors, "findings": [asdict(finding) for finding in findings]}, indent=1))
    elif errors:
        print(f"This machine cannot run all of mnistmp: {_count(errors, 'error')}, {_count(warnings, 'warning')}.")
    else:
        print(f"This machine can run mnistmp: no error, {_count(warnings, 'warning')}.")
    return 1 if errors else 0


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number < 2 else 's'}"
