"""The website: complete, and nothing in it that needs a network, breaks, or widens a phone's page."""

import base64
import io
import re

import nbformat
import pytest
from browser import Browser, needs_chromium
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from stub_runs import record

from mnistmp import cli, paper, paths, records, site
from mnistmp.errors import InputError
from mnistmp.results import table2

NAMES = sorted(path.stem for path in paths.notebooks().glob("[0-9][0-9]_*.ipynb"))
ORDER = ["index.html", *(f"{name}.html" for name in NAMES)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "site"
    site.build("paper", folder)
    return folder


@pytest.fixture(scope="module")
def pages(built):
    return {name: BeautifulSoup((built / name).read_bytes(), "html.parser") for name in ORDER}


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


def test_the_papers_site_needs_its_records(place):
    with pytest.raises(InputError, match="Preset paper has no records in .*; run mnistmp reproduce first"):
        site.build("paper", place / "site")
    assert not (place / "site").exists()


def test_what_we_found_is_said_once_all_rows_are_recorded(place):
    for rows in ("rcl-inf", "all"):
        for spec in paper.plan("paper", rows, "0"):
            records.save(record(spec), "paper")
        site.build("paper", place / "site")
        index = BeautifulSoup((place / "site/index.html").read_bytes(), "html.parser")
        assert bool(index.find(id="What-we-found")) == (rows == "all")


# ---- the committed notebooks ----


def test_every_page_leads_to_all_others_to_its_neighbours_and_to_its_sections(pages, built):
    assert {path.name for path in built.glob("*.html")} - {site.INTERACTIVE} == set(ORDER)
    for place, (name, page) in enumerate(pages.items()):
        contents = page.find(id="contents").find_all("a")
        entries = [a["href"] for a in contents if not a["href"].startswith("#")]
        assert [entry for entry in entries if entry != site.INTERACTIVE] == ORDER
        assert [a["href"] for a in contents if a.get("aria-current") == "page"] == [name]
        sections = [a.get_text() for a in contents if a["href"].startswith("#")]
        assert sections == [h.get_text().removesuffix("¶") for h in page.main.find_all("h2")] != []
        neighbours = {a["rel"][0]: a["href"] for a in page.select(".neighbours a")}
        assert neighbours.get("prev") == (ORDER[place - 1] if place else None)
        assert neighbours.get("next") == (ORDER + [None])[place + 1]
        assert page.title.string == page.h1.get_text().removesuffix("¶")


def test_table_2_comes_first_and_is_that_of_the_records(pages):
    lines = [[cell.get_text() for cell in row.find_all("td")] for row in pages["index.html"].table.find_all("tr")[1:]]
    text = table2.to_markdown(table2.side_by_side("paper"), "paper")
    assert lines == [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [line[0] for line in lines if not line[0].startswith("→")] == [row.label for row in paper.TABLE2]


def test_all_links_lead_somewhere(pages, built):
    for name, page in pages.items():
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


def test_nothing_is_loaded_from_anywhere(pages):
    for page in pages.values():
        assert not page.find_all(["script", "iframe", "object", "embed", "video", "audio", "base", "form"])
        assert [one["href"] for one in page.find_all("link")] == ["data:,"]
        for style in page.find_all("style"):
            assert not re.search(r"@import|url\((?!['\"]?data:)", style.string)
        policy = page.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
        assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_formulas_are_mathml(pages):
    formula = re.compile(r"\$\$.+?\$\$|\$.+?\$", re.DOTALL)
    for name in NAMES:
        notebook = nbformat.read(paths.notebooks() / f"{name}.ipynb", as_version=4)
        written = sum(len(formula.findall(c.source)) for c in notebook.cells if c.cell_type == "markdown")
        assert len(pages[f"{name}.html"].find_all("math")) == written, name
        for one in pages[f"{name}.html"].find_all(["mi", "mo", "mtext"]):
            assert "\\" not in one.get_text(), f"{name}: {one}"  # a command that was not understood


def test_names_no_machine(built):
    for path in built.iterdir():
        assert str(paths.checkout()) not in path.read_text(encoding="utf-8")


def test_the_same_notebooks_give_the_same_bytes_and_other_files_stay(place):
    write(place, "01_dataset", new_markdown_cell("# 01 · What?", id="a"))
    first = [path.read_bytes() for path in site.build("digits", place / "site")]
    (place / "site/own.txt").write_text("mine")
    assert first == [path.read_bytes() for path in site.build("digits", place / "site")]
    assert (place / "site/own.txt").read_text() == "mine"
    (place / "other").mkdir()
    (place / "other/index.html").write_text("mine")
    with pytest.raises(InputError, match="other holds other files and no website of mnistmp; name a new folder"):
        site.build("digits", place / "other")
    assert [path.name for path in (place / "other").iterdir()] == ["index.html"]


# ---- what is shown, and how ----


def test_what_a_record_or_a_reader_wrote_is_shown_not_obeyed(place):
    evil = '<script>alert(1)</script><img src=x onerror=alert(1)> & "quotes"'
    picture = new_output("display_data", {"image/png": "A"}, metadata={"image/png": {"alt": f'"{evil}', "width": evil}})
    table = new_output("display_data", {"text/markdown": f"| {evil} |\n|---|\n| {evil} |"})
    outputs = [new_output("stream", name="stdout", text=evil), picture, table]
    page = page_of(
        place,
        new_markdown_cell(f"# 01 · {evil}?\n\n## {evil}\n\n{evil}\n\n[go](javascript:alert(1))"),
        new_code_cell(evil, execution_count=1, outputs=outputs),
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
        "# What?\n\n$a = \\infty$ \\\\(b\\\\)\n\n$$\nc\n$$\n\n\\\\[d\\\\]\n\n\\begin{align} e &= f \\end{align}"
    ))  # fmt: skip
    assert [one["display"] for one in page.find_all("math")] == ["inline", "inline", "block", "block", "block"]
    # Infinity is a number and no operator.
    assert [(one.name, one.get_text()) for one in page.math.mrow] == [("mi", "a"), ("mo", "="), ("mi", "∞")]


@pytest.mark.parametrize(
    "formula, shown",
    [
        (r"\operatorname*{arg\,max}_k z_k", "argmaxkzk"),
        (r"\arg\max_k z_k", "argmaxkzk"),
        (r"\arg \min_k z_k", "argminkzk"),
        (r"\begin{cases} a & b \\ c & d \end{cases}", "{abcd"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "a=bc=d"),
        (r"x \label{eq} y", "xy"),
        # As it was written:
        (r"\text{50 \% of}", None),
        (r"\eqref{a}", None),
        (r"\nothing{y} < <b>", None),
        (r"a & b", None),
    ],
)
def test_a_formula_is_right_or_shown_as_it_was_written(place, formula, shown):
    cell = new_markdown_cell(f"# 01 · What?\n\nA ${formula}$ B\n\n$$\n{formula}\n$$")
    if shown:
        one, block = page_of(place, cell).main.find_all("math")
        assert "".join(one.get_text().split()) == "".join(block.get_text().split()) == shown
    else:
        with pytest.warns(
            UserWarning, match=re.escape(f"01_dataset: the formula {formula} cannot be read; it is shown")
        ):
            page = page_of(place, cell)
        assert [one.get_text() for one in page.main.find_all("code")] == [formula, formula] and not page.find("math")


def test_the_interactive_figure_3_is_copied_where_there_is_one(place):
    write(place, "01_dataset", new_markdown_cell("# 01 · What?"))
    assert site.INTERACTIVE not in [path.name for path in site.build("digits", place / "site")]
    assert site.INTERACTIVE not in (place / "site/index.html").read_text(encoding="utf-8")
    (place / "figures/digits").mkdir(parents=True)
    (place / "figures/digits/figure3.html").write_text("interactive")
    Image.new("RGB", (2, 2)).save(place / "figures/digits/figure3.png")
    page = page_of(place, new_markdown_cell("# 01 · What?\n\n[point](../figures/digits/figure3.html)"))
    assert (place / "site/figure3.html").read_text() == "interactive"
    assert page.main.p.a["href"] == "figure3.html"
    index = BeautifulSoup((place / "site/index.html").read_bytes(), "html.parser")
    assert len(index.find_all("a", href="figure3.html")) == 2 and len(index.find_all("img")) == 1


# ---- what cannot be shown is one sentence ----


def sentence(capsys, *arguments):
    assert cli.main(["report", "--preset", "digits", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_without_an_executed_notebook(place, capsys):
    write(place, "01_dataset", new_code_cell("1"))
    out = place / "site"
    line = sentence(capsys, "--out", str(out))
    assert re.fullmatch(r"mnistmp: .*notebooks holds no executed notebook to show; run mnistmp repro.* first\.", line)
    assert not out.exists()
    (place / "results/digits/notebooks/01_dataset.ipynb").write_text("{")
    assert "01_dataset.ipynb is no notebook (" in sentence(capsys, "--out", str(out))


def test_a_place_that_cannot_be_written(place, capsys):
    write(place, "01_dataset", new_markdown_cell("# 01 · What?"))
    (place / "file").write_text("")
    assert str(place / "file") in sentence(capsys, "--out", str(place / "file"))


# ---- in a browser ----

CHECK = """({
  broken: [...document.images].filter(image => !image.naturalWidth).map(image => image.alt),
  wide: [...document.querySelectorAll("main > *, main img, main pre, main table")]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.outerHTML.slice(0, 200)),
  cut: [...document.querySelectorAll("main *")].filter(one => one.scrollWidth > one.clientWidth + 1)
    .filter(one => one.clientWidth && getComputedStyle(one).overflowX !== "visible")
    .filter(one => innerWidth > 1000 || !getComputedStyle(one).backgroundAttachment.includes("local"))
    .map(one => one.outerHTML.slice(0, 200)),
  fits: document.documentElement.scrollWidth <= innerWidth,
  formulas: [...document.querySelectorAll("math")].filter(one => !one.getBoundingClientRect().width).length,
  columns: document.querySelector("main").offsetLeft > 200,
})"""


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [390, 1280, 1600])
def test_pages_work_in_a_browser_of_a_phone_and_of_a_desk(pages, built, tmp_path, width):
    """Nothing is cut off: on a desk nothing scrolls sideways, on a phone only what has a shadow that says so."""
    with Browser(tmp_path / "profile") as browser:
        for name in pages:
            browser.open(built / name, width)
            found = browser.evaluate(CHECK)
            wanted = {"broken": [], "wide": [], "cut": [], "fits": True, "formulas": 0, "columns": width > 1000}
            assert found == wanted, name
        assert not browser.problems
