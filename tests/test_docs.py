"""The documentation: every block of its pages runs and prints what stands below it, links lead somewhere, and the
reference names every public name.

`other_libraries.md` is run by `test_other_libraries.py`, `iminuit.md` by `test_minuit_front.py`.
"""

import contextlib
import inspect
import io
import re
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import migrax as mx

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {str(page.relative_to(DOCS)): page.read_text() for page in sorted(DOCS.rglob("*.md"))}
ELSEWHERE = {"other_libraries.md", "iminuit.md"}
# a block and what it prints, which stands right below it
PRINTED = re.compile(r"^```python\n(.*?)^```\n+(?:```\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
RUN = [name for name, text in PAGES.items() if name not in ELSEWHERE and "```python\n" in text]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def readable(text):
    """Without the lines that rounding decides on."""
    return [line.rstrip() for line in text.splitlines() if "EDM =" not in line and "Ngrad =" not in line]


@pytest.fixture
def own_cache():
    """Puts back where compiled programs are kept: a page shows how to set it."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", RUN)
def test_page_runs(name, tmp_path, monkeypatch):
    if "workspaces" in name:
        pytest.importorskip("click")
    if "keep_results" in name:
        pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)  # some write files
    namespace: dict = {"__name__": "page"}
    for block, shown in PRINTED.findall(PAGES[name]):
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(compile(block, name, "exec"), namespace)
        assert readable(told.getvalue()) == readable(shown), f"{name}: the output is not what is printed"


def test_no_page_is_left_out():
    assert {"index.md", "failures.md", "likelihoods.md", "performance.md"} <= set(RUN)
    assert sum(name.startswith("how_to/") for name in RUN) >= 9
    for name, text in PAGES.items():
        assert text.count("```") % 2 == 0, name
        assert len(PRINTED.findall(text)) == text.count("```python"), f"{name}: a block that would not run"


def anchors(text):
    """Of the headings, as the site makes them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


@pytest.mark.parametrize("name", PAGES)
def test_links(name):
    for link in LINK.findall(re.sub(r"^```.*?^```", "", PAGES[name], flags=re.DOTALL | re.MULTILINE)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (DOCS / name).parent / path if path else DOCS / name
        assert target.exists(), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{name}: {link}"


def test_the_menu_has_every_page():
    menu = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert menu == set(PAGES) | notebooks


def test_every_public_name_has_a_reference():
    said = re.findall(r"^::: (\S+)$", "\n".join(PAGES.values()), re.MULTILINE)
    assert len(said) == len(set(said)), "named twice"
    there = set()
    for module in (mx, mx.distributions, mx.io, mx.plot):
        for name in dir(module):
            if not name.startswith("_") and not inspect.ismodule(getattr(module, name)):
                there.add(f"{module.__name__}.{name}")
    assert sorted(there - set(said)) == [], "without a reference"
    assert sorted(set(said) - there) == [], "a reference to nothing"


def test_every_status_is_explained():
    text = PAGES["failures.md"]
    for kind in (mx.Status, mx.Side, mx.LimitStatus):
        for status in kind:
            assert f"`{status.name}`" in text, status
    for status in mx.Status:
        if status is not mx.Status.VALID:
            # in the message of a fit a direction may stand before it
            assert status.message[1:] in text, f"{status!r}: not shown with its message"
