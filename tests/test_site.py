"""The report: complete, and nothing in it that needs a network, breaks, or widens a phone's page."""

import base64
import io
import re
import sys

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from browser import Browser, needs_chromium
from mnistmp import cli, paper, paths, records, site
from mnistmp.results import table2
from test_notebooks import ABSOLUTE, NAMES

pytest.importorskip("latex2mathml", reason="needs the optional extra `report`")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "site"
    site.build("paper", folder)
    return folder


@pytest.fixture(scope="module")
def pages(built):
    return {path.name: BeautifulSoup(path.read_bytes(), "html.parser") for path in sorted(built.glob("[0-9i]*.html"))}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Results and figures of its own, without any."""
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    (tmp_path / "results/digits/notebooks").mkdir(parents=True)
    return tmp_path


def write(place, name, *cells):
    nbformat.write(new_notebook(cells=list(cells)), place / "results/digits/notebooks" / f"{name}.ipynb")


def page_of(place, *cells, name="01_dataset"):
    write(place, name, *cells)
    site.build("digits", place / "site")
    return BeautifulSoup((place / f"site/{name}.html").read_bytes(), "html.parser")


def markdown_output(text):
    return new_code_cell("1", execution_count=1, outputs=[new_output("display_data", {"text/markdown": text})])


# ---- the committed notebooks ----


def test_every_notebook_has_a_page_and_every_page_leads_to_all(pages):
    assert list(pages) == [*(f"{name}.html" for name in NAMES), "index.html"]
    order = ["index.html", *(f"{name}.html" for name in NAMES)]
    for name, page in pages.items():
        contents = page.find(id="contents")
        entries = [a["href"] for a in contents.find_all("a") if not a["href"].startswith("#")]
        assert [entry for entry in entries if entry != site.INTERACTIVE] == order
        assert [a["href"] for a in contents.find_all("a", {"aria-current": "page"})] == [name]
        sections = [a.get_text() for a in contents.find_all("a") if a["href"].startswith("#")]
        assert sections == [h.get_text().removesuffix("¶") for h in page.main.find_all("h2")] != []
        neighbours = {a["rel"][0]: a["href"] for a in page.select(".neighbours a")}
        place = order.index(name)
        assert neighbours.get("prev") == (order[place - 1] if place else None)
        assert neighbours.get("next") == (order[place + 1] if place + 1 < len(order) else None)
        assert page.title.string == page.h1.get_text().removesuffix("¶")


def test_table_2_comes_first_and_is_that_of_the_records(pages):
    index = pages["index.html"]
    assert index.h2.get_text() == "Table 2, preset paper¶"
    lines = [[cell.get_text() for cell in row.find_all("td")] for row in index.table.find_all("tr")[1:]]
    text = table2.to_markdown(table2.table2(records.load("paper")), "paper")
    assert lines == [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == len(paper.TABLE2)
    assert index.table.find_previous("h2") == index.h2


def test_all_links_lead_somewhere(pages, built):
    for name, page in pages.items():
        ids = [one["id"] for one in page.find_all(id=True)]
        assert len(set(ids)) == len(ids), name
        for link in page.find_all("a"):
            if not link["href"].startswith("https://"):
                file, _, fragment = link["href"].partition("#")
                assert (built / (file or name)).is_file(), f"{name}: {link}"
                assert not fragment or pages[file or name].find(id=fragment), f"{name}: {link}"


def test_all_pictures_are_in_the_page_with_words_for_them(pages):
    for name, page in pages.items():
        for picture in page.find_all("img"):
            kind, _, content = picture["src"].partition(",")
            assert kind == "data:image/png;base64", name
            Image.open(io.BytesIO(base64.b64decode(content))).verify()
            assert len(picture["alt"]) > 10 and not picture["alt"].startswith("No description"), name
    assert {len(page.find_all("img")) for page in pages.values()} > {4}


def test_nothing_is_loaded_from_anywhere(pages, built):
    for path in built.glob("*.html"):
        if path.name == site.INTERACTIVE:  # a page of its own: tests/test_latent.py
            continue
        page = pages[path.name]
        assert not page.find_all(["script", "iframe", "object", "embed", "video", "audio", "base", "form"])
        assert not [one for one in page.find_all("link") if one["href"] != "data:,"]
        assert not [one for one in page.find_all(srcset=True)]
        for style in page.find_all("style"):
            assert not re.search(r"@import|url\(|https?:", style.string)
        assert not page.find_all(style=re.compile("url"))
        policy = page.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
        assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_formulas_are_mathml(pages):
    formula = re.compile(r"\$\$.+?\$\$|\$.+?\$", re.DOTALL)
    for name in NAMES:
        notebook = nbformat.read(paths.notebooks() / f"{name}.ipynb", as_version=4)
        written = sum(len(formula.findall(c.source)) for c in notebook.cells if c.cell_type == "markdown")
        page = pages[f"{name}.html"]
        assert len(page.find_all("math")) == written, name
        assert not page.find_all("merror")
        text = BeautifulSoup(str(page.main), "html.parser")
        for one in text.find_all(["pre", "code", "math"]):
            one.decompose()
        assert not re.search(r"\$|\\[(\[a-z]", text.get_text()), name
        for one in page.find_all(["mi", "mo", "mtext"]):
            assert "\\" not in one.get_text(), f"{name}: {one}"  # a command that was not understood


def test_names_no_machine(built):
    for path in built.iterdir():
        text = re.sub(r"data:image/png;base64,[\w+/=]+", "", path.read_text(encoding="utf-8"))
        assert str(paths.checkout()) not in text
        assert not ABSOLUTE.search(BeautifulSoup(text, "html.parser").get_text() if path.suffix == ".html" else text)


def test_the_same_notebooks_give_the_same_bytes_and_other_files_stay(place):
    write(place, "01_dataset", new_markdown_cell("# 01 · What?", id="a"))
    (place / "site").mkdir()
    (place / "site/own.txt").write_text("mine")
    first = [path.read_bytes() for path in site.build("digits", place / "site")]
    assert first == [path.read_bytes() for path in site.build("digits", place / "site")]
    assert (place / "site/own.txt").read_text() == "mine"


# ---- what is shown, and how ----


def test_what_a_record_or_a_reader_wrote_is_shown_not_obeyed(place):
    evil = '<script>alert(1)</script><img src=x onerror=alert(1)> & "quotes"'
    page = page_of(
        place,
        new_markdown_cell(f"# 01 · {evil}?\n\n## {evil}\n\n{evil}\n\n[go](javascript:alert(1)) ![look](http://a.b)"),
        markdown_output(f"| {evil} |\n|---|\n| {evil} |"),
        new_code_cell(
            evil,
            execution_count=2,
            outputs=[
                new_output("stream", name="stdout", text=evil),
                new_output(
                    "display_data", {"image/png": "A"}, metadata={"image/png": {"alt": f'"{evil}', "width": evil}}
                ),
            ],
        ),
        new_markdown_cell(f"$x < y$ and $\\text{{{evil}}}$ and ``{evil}``"),
    )
    assert [image["alt"] for image in page.find_all("img")] == [f'"{evil}']
    assert not page.find_all("script") and not page.find_all(onerror=True)
    assert not [a for a in page.find_all("a") if a["href"].startswith("javascript")]
    assert page.get_text().count("<script>alert(1)</script>") >= 8
    assert page.title.string == f"01 · {evil}?"
    index = BeautifulSoup((place / "site/index.html").read_bytes(), "html.parser")
    assert not index.find_all("script") and evil in index.find(id="contents").get_text()


def test_links_lead_within_the_site_or_nowhere(place):
    write(place, "02_standard", new_markdown_cell("# 02 · And?"))
    page = page_of(place, new_markdown_cell(
        "# 01 · What?\n\n[two](02_standard.ipynb#so) [three](03_dropout.ipynb) [file](../mnistmp/losses.py) "
        "[web](https://example.org/) [here](#so)"))  # fmt: skip
    assert [a["href"] for a in page.main.p.find_all("a")] == ["02_standard.html#so", "https://example.org/", "#so"]
    assert page.main.p.get_text() == "two three file web here"


def test_all_ways_to_write_a_formula(place):
    page = page_of(place, new_markdown_cell(
        "# What?\n\n$a_1$ \\\\(b\\\\)\n\n$$\nc\n$$\n\n\\\\[d\\\\]\n\n\\begin{align} e &= f \\\\ g &= 1 \\end{align}"
    ))  # fmt: skip
    assert [one["display"] for one in page.find_all("math")] == ["inline", "inline", "block", "block", "block"]
    assert all(one.parent["class"] == ["formula"] for one in page.find_all("math", display="block"))


def test_infinity_is_a_number_and_no_operator(place):
    page = page_of(place, new_markdown_cell("# 01 · What?\n\n$m = \\infty$"))
    assert [(one.name, one.get_text()) for one in page.math.mrow] == [("mi", "m"), ("mo", "="), ("mi", "∞")]


def test_figure_3_to_point_at_is_copied_where_there_is_one(place):
    write(place, "01_dataset", new_markdown_cell("# 01 · What?"))
    assert site.INTERACTIVE not in [path.name for path in site.build("digits", place / "site")]
    assert site.INTERACTIVE not in (place / "site/index.html").read_text(encoding="utf-8")
    (place / "figures/digits").mkdir(parents=True)
    (place / "figures/digits/figure3.html").write_text("to point at")
    Image.new("RGB", (2, 2)).save(place / "figures/digits/figure3.png")
    page = page_of(place, new_markdown_cell("# 01 · What?\n\n[point](../figures/digits/figure3.html)"))
    assert (place / "site/figure3.html").read_text() == "to point at"
    assert page.main.p.a["href"] == "figure3.html"
    index = BeautifulSoup((place / "site/index.html").read_bytes(), "html.parser")
    assert len(index.find_all("a", href="figure3.html")) == 2 and len(index.find_all("img")) == 1


# ---- what cannot be shown ----


def sentence(capsys, *arguments):
    assert cli.main(["report", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_without_an_executed_notebook_there_is_one_sentence(place, capsys):
    write(place, "01_dataset", new_code_cell("1"))
    out = place / "site"
    line = sentence(capsys, "--out", str(out))
    assert re.fullmatch(r"mnistmp: .*notebooks holds no executed notebook to show; run mnistmp repro.* first\.", line)
    assert not out.exists()
    (place / "results/digits/notebooks/01_dataset.ipynb").write_text("{")
    assert "01_dataset.ipynb is no notebook (" in sentence(capsys, "--out", str(out))
    assert "'nothing'" in sentence(capsys, "--preset", "nothing")


def test_a_formula_that_cannot_be_read_is_named(place, capsys):
    write(place, "01_dataset", new_markdown_cell("# 01 · What?\n\n$x \\nothing{y}$"))
    line = sentence(capsys, "--out", str(place / "site"))
    assert "01_dataset cannot be shown (the formula x \\nothing{y} cannot be read)" in line


def test_a_missing_package_is_named(place, capsys, monkeypatch):
    write(place, "01_dataset", new_markdown_cell("# 01 · What?"))
    monkeypatch.delitem(sys.modules, "mnistmp.site.exporter", raising=False)
    monkeypatch.setitem(sys.modules, "latex2mathml", None)
    assert "needs the package latex2mathml; pip install" in sentence(capsys, "--out", str(place / "site"))


def test_a_place_that_cannot_be_written_is_named(place, capsys):
    write(place, "01_dataset", new_markdown_cell("# 01 · What?"))
    (place / "file").write_text("")
    assert str(place / "file") in sentence(capsys, "--out", str(place / "file"))


# ---- in a browser ----

CHECK = """({
  broken: [...document.images].filter(image => !image.naturalWidth).map(image => image.alt),
  fits: document.documentElement.scrollWidth <= screen.width,
  wide: [...document.querySelectorAll("main > *, main img")]
    .filter(one => one.getBoundingClientRect().right > screen.width + 0.5).map(one => one.outerHTML.slice(0, 200)),
  formulas: [...document.querySelectorAll("math")].filter(one => !one.getBoundingClientRect().width).length,
  columns: document.querySelector("main").offsetLeft > 200,
})"""


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [390, 1440])
def test_pages_work_in_a_browser_of_a_phone_and_of_a_desk(pages, built, tmp_path, width):
    with Browser(tmp_path / "profile") as browser:
        for name in pages:
            browser.open(built / name, width)
            found = browser.evaluate(CHECK)
            assert found == {"broken": [], "fits": True, "wide": [], "formulas": 0, "columns": width > 1000}, name
        assert not browser.problems
