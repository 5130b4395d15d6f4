"""Writes the versions that affetto is tested with, as this environment has them, or the lowest it takes.

    .venv/bin/python tools/constraints.py > constraints.txt
    .venv/bin/python tools/constraints.py --lowest > lowest.txt

The first walks from pyproject.toml, all extras included, to every package that is needed. The second pins
what pyproject.toml names to its lower bound. Both are for ``pip install -c FILE``.
"""

import platform
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def direct() -> list[Requirement]:
    """Returns what pyproject.toml names, each extra included."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for each in lists for text in each]


def lowest() -> dict[str, str]:
    """Returns the lower bound of every package that has one; the highest, where several are named."""
    found: dict[str, str] = {}
    for each in direct():
        name = canonicalize_name(each.name)
        for bound in each.specifier:
            if bound.operator == ">=":
                found[name] = max(bound.version, found.get(name, "0"), key=Version)
    return found


def installed() -> dict[str, str]:
    """Returns the versions here of all packages that are needed; without a local part such as ``+cpu``."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = direct()
    while waiting:
        each = waiting.pop()
        name, extras = canonicalize_name(each.name), frozenset(each.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            there = distribution(name)
        except PackageNotFoundError:  # of another system, or of CUDA
            continue
        found[name] = Version(there.version).public
        for needed in map(Requirement, there.requires or []):
            wanted = needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            )
            if wanted:
                waiting.append(needed)
    return found


def main() -> None:
    """Prints one line a package."""
    if sys.argv[1:] == ["--lowest"]:
        versions = lowest()
        print("# The lowest versions that pyproject.toml takes; written by tools/constraints.py --lowest.")
    else:
        versions = installed()
        print("# The versions that affetto is tested with: pip install -c constraints.txt affetto")
        print(f"# Written by tools/constraints.py: Python {platform.python_version()}, {platform.system()}.")
    print("\n".join(f"{name}=={version}" for name, version in sorted(versions.items())))


if __name__ == "__main__":
    main()
