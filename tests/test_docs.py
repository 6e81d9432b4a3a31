"""The pages are true: their Python runs, their links lead somewhere, their commands are commands."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("examples/*/README.md"))]


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in the given languages."""
    return [
        body
        for language, body in re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL)
        if language in languages
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_block_runs_in_the_order_of_the_page(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, f"<{name_of(page)}>", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_within_the_tree_leads_to_a_file(page):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text())
    broken = [target for target in targets if not (page.parent / target).exists()]
    known_at_root = {"CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"}  # not copied beside the tests of the wheel

    assert set(broken) <= known_at_root


def anchors(page: Path) -> set[str]:
    """Return what a link may say after the # to reach each heading of a page."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_to_a_heading_leads_to_one(page):
    links = re.findall(r"\]\(([\w./-]*)#([^)]+)\)", page.read_text())

    broken = [(file, anchor) for file, anchor in links if anchor not in anchors(page.parent / file if file else page)]

    assert broken == []


@pytest.mark.tree
def test_every_file_of_the_tree_that_a_page_or_a_comment_names_is_there():
    named = re.compile(r"\b(?:model|export|bundle|serve|client|command|bench|tests)/[a-z_/]+\.(?:py|md|sh)\b")
    texts = [
        file for pattern in ("*.md", "*.py") for file in ROOT.rglob(pattern) if file.parts[len(ROOT.parts)][0] != "."
    ]

    missing = {
        (path, text.name) for text in texts for path in named.findall(text.read_text()) if not (ROOT / path).exists()
    }

    assert missing == set()


def command_lines() -> list[object]:
    found = []
    for page in PAGES:
        for block in blocks(page, "sh", "bash", "console"):
            joined = re.sub(r"\\\n\s*", " ", block)
            for line in joined.splitlines():
                words = line.removeprefix("$ ").strip()
                if words.startswith("cellgate "):
                    found.append(pytest.param(words, id=f"{name_of(page)}: {words[:50]}"))
    return found


@pytest.mark.parametrize("line", command_lines())
def test_every_cellgate_command_of_the_pages_is_understood(line):
    from cellgate.command.parser import make_parser

    words = shlex.split(line, comments=True)
    for stop in ("|", ">", "&", "&&", "2>"):
        words = words[: words.index(stop)] if stop in words else words

    make_parser().parse_args(words[1:])
