"""A hook of mkdocs: each notebook of `notebooks/`, with the outputs that it holds, becomes a page of the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

_NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in sorted(_NOTEBOOKS.glob("*.ipynb")):
        resources = {"unique_key": path.stem, "output_files_dir": path.stem}
        page, found = MarkdownExporter().from_filename(str(path), resources=resources)
        page = re.sub(r"\]\(\.\./docs/", "](../", page)  # from notebooks/ to docs/, which is the root of the site
        page = re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", page)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
        for name, content in found["outputs"].items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files
