"""Puts libconfer into the wheel, stripped, with its licences and its bill of materials, and names the
platform that it needs. Builds in a checkout only.

CONFER_LIBRARY is the library's path; by default it is the tree's build/lib. CONFER_WHEEL_PLATFORM is
the platform of a library that is not for Linux with glibc, such as macosx_11_0_arm64 or win_amd64.
STRIP is the program that strips a library of another platform, such as aarch64-linux-gnu-strip.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
NAMES = {".dylib": "libconfer.0.dylib", ".dll": "confer.dll"}
# The crates in the library depend on cargo's target.
TARGETS = {
    r"manylinux_\d+_\d+_(x86_64|aarch64)": r"\1-unknown-linux-gnu",
    r"musllinux_\d+_\d+_(x86_64|aarch64)": r"\1-unknown-linux-musl",
    r"macosx_\d+_\d+_(arm64|universal2)": "aarch64-apple-darwin",
    r"macosx_\d+_\d+_x86_64": "x86_64-apple-darwin",
    r"win_amd64": "x86_64-pc-windows-gnu",
}
LICENCES = ["LICENSE-MIT", "LICENSE-APACHE"]


class MetadataHook(MetadataHookInterface):
    """Writes the licences and the bill of materials next to pyproject.toml. hatchling takes licences
    from no other place."""

    def update(self, metadata: dict[str, Any]) -> None:
        tree = checkout(self.root)
        for licence in LICENCES:
            shutil.copyfile(tree / licence, Path(self.root, licence))
        target = rust_target(wheel_platform(library(tree)))
        subprocess.run([tree / "scripts/dependencies", self.root, target], cwd=tree, check=True)
        metadata["license-files"] = [*LICENCES, "THIRD-PARTY-LICENCES.txt"]


class BuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        original = library(checkout(self.root))
        self.scratch = tempfile.mkdtemp()
        copy = Path(self.scratch, NAMES.get(original.suffix, "libconfer.so.0"))
        shutil.copyfile(original, copy)
        subprocess.run([os.environ.get("STRIP", "strip"), "--strip-unneeded", copy], check=True)
        # No compiled extension: any Python 3 can use it.
        build_data["tag"] = f"py3-none-{wheel_platform(copy)}"
        build_data["pure_python"] = False
        build_data["force_include"][str(copy)] = f"confer/{copy.name}"
        build_data["sbom_files"].append("libconfer.cdx.json")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self.scratch)


def checkout(root: str) -> Path:
    tree = Path(root, "../..").resolve()
    if not (tree / "scripts/dependencies").exists():
        raise FileNotFoundError("a wheel is built in a checkout: python -m build --wheel bindings/python")
    return tree


def library(tree: Path) -> Path:
    path = Path(os.environ.get("CONFER_LIBRARY") or tree / "build/lib/libconfer.so")
    if not path.exists():
        raise FileNotFoundError(f"no {path}: run `make lib`, or set CONFER_LIBRARY")
    return path


def wheel_platform(path: Path) -> str:
    return os.environ.get("CONFER_WHEEL_PLATFORM") or glibc_platform(path.read_bytes())


def glibc_platform(content: bytes) -> str:
    """The oldest manylinux platform that has the glibc symbols of a library."""
    if not content.startswith(b"\x7fELF"):
        raise ValueError("the library is not for Linux: set CONFER_WHEEL_PLATFORM")
    machine = ELF_MACHINES[int.from_bytes(content[18:20], "little")]
    versions = [int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)(?=[.\0])", content)]
    if not versions:
        raise ValueError("the library does not use glibc: set CONFER_WHEEL_PLATFORM")
    return f"manylinux_2_{max(versions)}_{machine}"


def rust_target(platform: str) -> str:
    for pattern, target in TARGETS.items():
        if match := re.fullmatch(pattern, platform):
            return match.expand(target)
    raise ValueError(f"{platform} is no platform of libconfer")
