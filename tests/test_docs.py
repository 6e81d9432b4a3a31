"""The pages are true: their Python runs, their links lead somewhere, their commands are commands."""

import json
import math
import re
import shlex
from pathlib import Path

import pytest
import torch

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


def test_the_model_that_the_curl_lines_ask_gives_the_answers_that_are_printed():
    """The page's demo.py, run by torch; its numbers in the pages came from the server."""
    page, printed = (ROOT / "docs/http.md").read_text(), {}
    for name in ("http.md", "streams.md"):
        (answer,) = re.findall(r"```json\n(\{\"model_name\".*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL)
        printed[name] = json.loads(answer)["outputs"][0]
    (code,) = re.findall(r"demo.py <<'END'\n(.*?)END\n", page, re.DOTALL)
    namespace: dict[str, object] = {}
    exec(compile(code, "<demo.py>", "exec"), namespace)
    with torch.random.fork_rng(), torch.no_grad():
        y, _ = namespace["demo"]()(torch.tensor([[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]]))

    assert list(y.shape) == [1, 3, 4]
    assert printed["http.md"]["data"] == pytest.approx(y[0, :2].flatten().tolist(), abs=1e-6)
    assert printed["streams.md"]["data"] == pytest.approx(y[0, 2].tolist(), abs=1e-6)


def test_the_numbers_of_the_readmes_request_fill_their_shapes():
    (body,) = re.findall(r"curl .*? -d '(\{.*?\})'\n", (ROOT / "README.md").read_text(), re.DOTALL)
    x, lengths = json.loads(body)["inputs"]

    assert len(x["data"]) == math.prod(x["shape"])
    assert lengths["data"] == [2, 1]
    assert not any(x["data"][-12:])


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
    made = {"build", "dist"}  # the environments of bench/peers, too
    folders = [folder for folder in ROOT.iterdir() if folder.name[0] != "." and folder.name not in made]
    texts = [file for pattern in ("*.md", "*.py") for folder in folders for file in folder.rglob(pattern)]
    texts += [*ROOT.glob("*.md"), *ROOT.glob("*.py")]

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
