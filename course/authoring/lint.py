"""`python3 -m course lint`: style, layout, types and spelling, each by its tool, and whether links lead somewhere.

The tools' settings are in pyproject.toml.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from course.steps import ROOT

TOOLS = {
    "types": ("mypy",),  # the slowest first, beside all others
    "style": ("ruff", "check"),
    "layout": ("ruff", "format", "--check"),
    "spelling": ("codespell_lib",),
}
PAGES = ("*.md", "docs/*.md", "step*/**/*.ipynb")


def main(root: Path = ROOT) -> int:
    """Run every check and print what it found; 1 if it found anything."""
    with ThreadPoolExecutor() as pool:
        running = {name: pool.submit(run, command, root) for name, command in TOOLS.items()}
        found = {"links": "\n".join(broken_links(root))} | {name: done.result() for name, done in running.items()}
    for name, said in found.items():
        print(f"{name}: not fine\n{said}\n" if said else f"{name}: fine")
    return 1 if any(found.values()) else 0


def run(command: tuple[str, ...], root: Path) -> str:
    """What a tool says about the course; nothing if all is fine."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip() or f"exit status {done.returncode}" if done.returncode else ""


# Links ------------------------------------------------------------------------------------------------------


def broken_links(root: Path) -> Iterator[str]:
    """Each link of the pages and lessons that leads nowhere, with its place. There is no network here: an address
    elsewhere only has to look like one."""
    for page in sorted(path for pattern in PAGES for path in root.glob(pattern)):
        for place, token in inline(page):
            for target in targets(token):
                if fault := wrong(target, page, root):
                    yield f"{page.relative_to(root)}, {place}: {target}: {fault}"


def inline(page: Path) -> Iterator[tuple[str, Token]]:
    """(where it stands, token) of everything in a page, or in a notebook's text cells, that is no code block."""
    parser = MarkdownIt("commonmark").enable("table")
    text = page.read_text(encoding="utf-8")
    parts = {"": text}
    if page.suffix == ".ipynb":
        cells = enumerate(json.loads(text)["cells"], 1)
        parts = {f"cell {i}, ": "".join(cell["source"]) for i, cell in cells if cell["cell_type"] == "markdown"}
    for part, source in parts.items():
        before = ""
        for token in parser.parse(source):
            if token.type in ("inline", "html_block"):
                token.meta["heading"] = before == "heading_open"
                yield f"{part}line {(token.map or [0])[0] + 1}", token
            before = token.type


def targets(token: Token) -> Iterator[str]:
    """Where a token's links and pictures lead."""
    for part in token.children or [token]:
        if target := part.attrGet("href") or part.attrGet("src"):
            yield str(target)
        elif part.type.startswith("html"):
            yield from re.findall(r"\b(?:href|src)=[\"']([^\"']+)", part.content)


def wrong(target: str, page: Path, root: Path) -> str:
    """What is wrong with a link of a page; nothing if it leads somewhere."""
    try:
        link = urlsplit(target)
    except ValueError as error:
        return str(error)
    if link.scheme in ("http", "https"):
        return "" if re.fullmatch(r"localhost|[\w-]+(\.[\w-]+)+", link.hostname or "") else "not an address"
    if link.scheme:
        return "" if link.scheme in ("attachment", "data", "mailto") else f"what is {link.scheme}:?"
    there = (page.parent / unquote(link.path)).resolve() if link.path else page
    if link.path.startswith("/") or not there.is_relative_to(root.resolve()) or not there.exists():
        return "no such file in the course"
    return "" if not link.fragment or unquote(link.fragment) in anchors(there) else "no such heading"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them, or of a notebook's, as JupyterLab does."""
    found: set[str] = set()
    if page.suffix not in (".md", ".ipynb"):
        return found
    for _, token in inline(page):
        found |= set(re.findall(r"\b(?:id|name)=[\"']([^\"']+)", token.content))
        if token.meta["heading"]:
            words = "".join(part.content for part in token.children or [])
            words = words if page.suffix == ".ipynb" else re.sub(r"[^\w\- ]", "", words.lower())
            found.add(words.replace(" ", "-"))
    return found
