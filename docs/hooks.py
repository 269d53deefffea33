"""What makes a site of these pages: the README is its first one, and links into the source, which a site does not have, are plain text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

_README: Final = Path(__file__).parents[1] / "README.md"
_LINK: Final = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
_ELSEWHERE: Final = re.compile(r"[a-z]+:")


def on_files(files: Files, config: Any) -> Files:
    """Put the README where the site begins."""
    files.append(File.generated(config, "index.md", content=_README.read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to where things are on the site."""
    folder = Path() if page.file.src_uri == "index.md" else Path("docs") / Path(page.file.src_uri).parent
    here = Path("docs") / Path(page.file.src_uri).parent

    def relink(link: re.Match[str]) -> str:
        target = link["target"]
        if not target or _ELSEWHERE.match(target):
            return link[0]
        path = _resolved(folder / target)
        if path == Path("README.md"):
            path = Path("docs/index.md")
        if path.parts[:1] != ("docs",) or (path.suffix != ".md" and not _is_folder_of_pages(path, files)):
            return link["text"]
        return f"[{link['text']}]({_relative(path, here)}{link['anchor'] or ''})"

    return _LINK.sub(relink, markdown)


def _resolved(path: Path) -> Path:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return Path(*parts)


def _relative(path: Path, folder: Path) -> str:
    shared = 0
    for one, other in zip(path.parts, folder.parts, strict=False):
        if one != other:
            break
        shared += 1
    return "/".join([".."] * (len(folder.parts) - shared) + list(path.parts[shared:]))


def _is_folder_of_pages(path: Path, files: Files) -> bool:
    return files.get_file_from_path(f"{Path(*path.parts[1:])}/index.md") is not None
