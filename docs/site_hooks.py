"""MkDocs hooks: README.md and CHANGELOG.md become pages, and links out of docs/ are checked.

A link to a source file works on a code host. The site holds no source files, so there the link becomes its
text. A link to a file that does not exist is a warning, and `make docs` treats warnings as errors.
"""

import logging
import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {ROOT / "README.md": "index.md", ROOT / "CHANGELOG.md": "changelog.md"}

# Code, which stays as it is, or a link: [text](target).
_CODE_OR_LINK = re.compile(r"```.*?```|(?<!`)`[^`\n]+`|\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)", re.S)

log = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the two pages that stand in the root of the repository."""
    for path, uri in PAGES.items():
        files.append(File.generated(config, uri, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Rewrite the page's links to files of the repository."""
    uri = page.file.src_uri
    folder = next((path.parent for path, name in PAGES.items() if name == uri), (DOCS / uri).parent)
    return _CODE_OR_LINK.sub(lambda match: _rewrite(match, folder, uri), markdown)


def _rewrite(match: re.Match[str], folder: Path, uri: str) -> str:
    text, target = match[1], match[2]
    if target is None or re.match(r"[a-z]+:|#", target):
        return match[0]
    name, *anchor = target.split("#", 1)
    path = Path(os.path.normpath(folder / name))
    if not path.exists():
        log.warning("%s links to %s, which does not exist", uri, target)
    if path in PAGES:
        destination = PAGES[path]
    elif path.is_relative_to(DOCS) and path.is_file():
        destination = path.relative_to(DOCS).as_posix()
    else:
        return text
    relative = os.path.relpath(destination, Path(uri).parent)
    return f"[{text}]({'#'.join([relative, *anchor])})"
