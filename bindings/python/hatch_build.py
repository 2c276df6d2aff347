"""Puts libconfer into the wheel, stripped, and names the platform that it needs.

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

ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
NAMES = {".dylib": "libconfer.0.dylib", ".dll": "confer.dll"}


class CustomBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        tree = Path(self.root, "../..").resolve()
        library = Path(os.environ.get("CONFER_LIBRARY") or tree / "build/lib/libconfer.so")
        if not library.exists():
            raise FileNotFoundError(f"no {library}: run `make lib`, or set CONFER_LIBRARY")
        self.scratch = tempfile.mkdtemp()
        copy = Path(self.scratch, NAMES.get(library.suffix, "libconfer.so.0"))
        shutil.copyfile(library, copy)
        subprocess.run([os.environ.get("STRIP", "strip"), "--strip-unneeded", copy], check=True)
        platform = os.environ.get("CONFER_WHEEL_PLATFORM") or glibc_platform(copy.read_bytes())
        # No compiled extension: any Python 3 can use it.
        build_data["tag"] = f"py3-none-{platform}"
        build_data["pure_python"] = False
        build_data["force_include"][str(copy)] = f"confer/{copy.name}"
        for licence in tree.glob("LICENSE-*"):
            build_data["force_include"][str(licence)] = f"confer/{licence.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self.scratch)


def glibc_platform(library: bytes) -> str:
    """The oldest manylinux platform that has the glibc symbols of a library."""
    if not library.startswith(b"\x7fELF"):
        raise ValueError("the library is not for Linux: set CONFER_WHEEL_PLATFORM")
    machine = ELF_MACHINES[int.from_bytes(library[18:20], "little")]
    versions = [int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)(?=[.\0])", library)]
    if not versions:
        raise ValueError("the library does not use glibc: set CONFER_WHEEL_PLATFORM")
    return f"manylinux_2_{max(versions)}_{machine}"
