"""What the records say.

accuracy.py is the only place that selects, averages and compares; markdown.py the only one that writes. table2.py is
Table 2, claims.py the paper's sentences as tests, findings.py both in a few lines. A study of further runs gives its
`specs`, their `table`, `to_markdown` and `write`: ablation.py, calibration.py, weights.py, search.py; how their runs
are named and which values there are is in interpretations.py.
"""
