"""A hook of mkdocs that writes the API reference: one page per package, found by walking the source tree.

Nobody lists modules by hand, so a module that is added, moved or removed needs no change here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).parents[2] / "fmnist"


def packages() -> dict[str, list[str]]:
    """Returns the dotted names of all packages with those of their modules, the package itself first."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        if parts[-1] == "__main__":
            continue
        modules = found.setdefault(".".join(parts[:-1]), [])
        if parts[-1] != "__init__":
            modules.append(".".join(parts))
        elif path.stat().st_size:
            modules.insert(0, ".".join(parts[:-1]))
    return {package: modules for package, modules in sorted(found.items()) if modules}


def on_config(config: Any) -> Any:
    """Appends the pages to the navigation."""
    pages = [{package: _address(package)} for package in packages()]
    config.nav.append({"API reference": pages})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages, which exist nowhere on disk."""
    for package, modules in packages().items():
        blocks = "\n\n".join(f"::: {module}" for module in modules)
        files.append(File.generated(config, _address(package), content=f"# {package}\n\n{blocks}\n"))
    return files


def _address(package: str) -> str:
    return f"reference/{package}.md"
