"""What must hold whatever happens: finished records stay, none is torn, none counts twice; and a table of it."""

from collections import Counter
from types import SimpleNamespace

from mnistmp import records


class Ledger:
    """Follows the finished records below a folder of results, of all presets.

    Attributes:
        lost: finished records that vanished, changed or became unreadable since they were first seen.
        duplicated: records beyond one per run.
        spoiled: files that a test broke on purpose, which are none.
    """

    def __init__(self, results):
        self.results, self.known, self.lost, self.spoiled = results, {}, 0, set()

    def look(self):
        """Look again, reading every record as any reader would; returns how many there are."""
        files = set(self.results.glob("*/runs/*/seed-*.json")) - self.spoiled
        now = {path: path.read_bytes() for path in files}
        self.lost += sum(now.get(path) != content for path, content in self.known.items())
        for path in now:
            try:
                records.read(path)
            except records.RecordError as error:
                self.lost += 1
                print(error)  # pytest shows it with the failure
        self.known = now
        return len(now)

    @property
    def duplicated(self):
        runs = Counter()
        for path in self.known:
            record = records.read(path)
            runs[path.parts[-4], record.spec.row, record.spec.seed] += 1
        return sum(count - 1 for count in runs.values())


class Table:
    """Lines of fault, times tried, lost, duplicated and the message shown."""

    HEAD = ("fault", "tried", "lost", "duplicated", "message shown")

    def __init__(self):
        self.lines = {}

    def of(self, folder):
        """The same table, taking lines of a test that works in a folder, whose name nobody needs to read."""
        return SimpleNamespace(add=lambda *args, **kwargs: self._add(folder, *args, **kwargs))

    def _add(self, folder, fault, message, ledger, tried=1):
        ledger.look()
        line = self.lines.setdefault(fault, [0, 0, 0, ""])
        line[0] += tried
        line[1] += ledger.lost
        line[2] += ledger.duplicated
        line[3] = message.replace(str(folder), "...").removeprefix("mnistmp: ").strip()
        assert (ledger.lost, ledger.duplicated) == (0, 0), fault
        assert "\n" not in line[3] and "Traceback" not in line[3] and len(message) < 700, message

    def to_markdown(self):
        """The table, or nothing where no fault was tried."""
        if not self.lines:
            return ""
        rows = [[fault, *map(str, line)] for fault, line in self.lines.items()]
        cells = [[cell.replace("|", "\\|") for cell in row] for row in (self.HEAD, ["---"] * 5, *rows)]
        return "\n".join(f"| {' | '.join(row)} |" for row in cells)
