#!/usr/bin/env python3
"""Checks the structure of an XCFramework of static frameworks as Xcode does.

    tests/cross/xcframework.py XCFRAMEWORK ZIP OLDEST_IOS OLDEST_MACOS

Checks the property lists, the module maps, the headers, and in each library the CPUs, the platform
and the oldest system of every object file. Compares the privacy manifests with the calls that the
libraries make.
"""

import hashlib
import plistlib
import re
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# By platform and variant: its CPUs, its platform in Info.plist and in object files.
PLATFORMS = {
    ("ios", None): ({"arm64"}, "iPhoneOS", "ios"),
    ("ios", "simulator"): ({"arm64", "x86_64"}, "iPhoneSimulator", "iossimulator"),
    ("macos", None): ({"arm64", "x86_64"}, "MacOSX", "macos"),
}
# Calls for which Apple asks for reasons, by category. arm64 has no suffix after the name.
REASONED_CALLS = {
    "NSPrivacyAccessedAPICategoryFileTimestamp":
        r"f?stat(at)?|lstat|f?getattrlist(at|bulk)?|_OBJC_.*(NSFileManager|NSURL)",
    "NSPrivacyAccessedAPICategorySystemBootTime": r"mach_absolute_time|_OBJC_.*NSProcessInfo",
    "NSPrivacyAccessedAPICategoryDiskSpace": r"f?statv?fs|_OBJC_.*NSFileManager",
    "NSPrivacyAccessedAPICategoryUserDefaults": r"_OBJC_.*NSUserDefaults",
    "NSPrivacyAccessedAPICategoryActiveKeyboards": r"_OBJC_.*UITextInputMode",
}
# The reasons that this library may give.
REASONS = {"NSPrivacyAccessedAPICategoryFileTimestamp": {"C617.1", "3B52.1"}}
# The simulator came to this CPU with iOS 14.
LATER = {("arm64", "iossimulator"): "14.0"}


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"FAILED: {what}")


def split(binary: Path, folder: Path) -> dict[str, Path]:
    """Returns the library of each CPU."""
    # Debian names llvm-lipo by its version. It crashes if it reads a library of one CPU.
    lipo = run("bash", "-c", "compgen -c llvm-lipo | sort --version-sort | tail -1").strip()
    if binary.read_bytes().startswith(b"!<arch>\n"):
        named = set(re.findall(r"MH_MAGIC_64 +(\S+)", run("llvm-objdump", "--macho", "--private-headers", str(binary))))
        return {"_".join(sorted(named)).lower(): binary}
    libraries = {}
    for cpu in run(lipo, "-archs", str(binary)).split():
        libraries[cpu] = folder / f"{cpu}.a"
        run(lipo, "-thin", cpu, "-output", str(libraries[cpu]), str(binary))
    return libraries


def check_library(binary: Path, cpus: set[str], platform: str, oldest: str) -> set[str]:
    """Returns the categories of calls for which Apple asks for reasons."""
    with tempfile.TemporaryDirectory() as folder:
        libraries = split(binary, Path(folder))
        check(set(libraries) == cpus, f"{binary}: CPUs {set(libraries)}, expected {cpus}")
        return set().union(*(check_cpu(libraries[cpu], cpu, platform, oldest) for cpu in sorted(cpus)))


def check_cpu(library: Path, cpu: str, platform: str, oldest: str) -> set[str]:
    content = library.read_bytes()
    check(content.startswith(b"!<arch>\n"), f"{platform}, {cpu}: no static library")
    headers = run("llvm-objdump", "--macho", "--private-headers", str(library))
    check("__bitcode" not in headers, f"{platform}, {cpu}: has the compiler's bitcode, which Apple's store refuses")
    builds = re.findall(r"cmd LC_BUILD_VERSION\n +cmdsize .*\n +platform (\S+)\n +sdk .*\n +minos (\S+)\n", headers)
    check(len(builds) > 10, f"{platform}, {cpu}: {len(builds)} object files name their platform")
    check("LC_VERSION_MIN" not in headers, f"{platform}, {cpu}: an object file names its platform in the old way")
    want = LATER.get((cpu, platform), oldest)
    for found_platform, minimum in builds:
        check(found_platform == platform, f"{platform}, {cpu}: an object file is for {found_platform}")
        newer = [int(n) for n in minimum.split(".")] > [int(n) for n in want.split(".")]
        check(not newer, f"{platform}, {cpu}: an object file needs {minimum}, not {want}")
    calls = run("llvm-nm", "--undefined-only", "--format=just-symbols", str(library))
    return {
        category
        for category, pattern in REASONED_CALLS.items()
        if re.search(rf"^_({pattern})(\$.*)?$", calls, re.MULTILINE) is not None
    }


def check_privacy(manifest: Path, used: set[str]) -> None:
    privacy = plistlib.loads(manifest.read_bytes())
    check(privacy["NSPrivacyTracking"] is False, f"{manifest}: tracking")
    for key in ("NSPrivacyTrackingDomains", "NSPrivacyCollectedDataTypes"):
        check(privacy[key] == [], f"{manifest}: {key} is {privacy[key]}")
    accessed = privacy["NSPrivacyAccessedAPITypes"]
    given = {it["NSPrivacyAccessedAPIType"]: set(it["NSPrivacyAccessedAPITypeReasons"]) for it in accessed}
    check(set(given) == used, f"{manifest}: names {set(given)}, the library uses {used}")
    check(given == REASONS, f"{manifest}: gives the reasons {given}")


def check_framework(framework: Path, bundle_platform: str, oldest: str) -> None:
    name = framework.stem
    is_mac = bundle_platform == "MacOSX"
    resources = framework / "Resources" if is_mac else framework
    info = plistlib.loads((resources / "Info.plist").read_bytes())
    for key, value in {
        "CFBundleExecutable": name,
        "CFBundleName": name,
        "CFBundlePackageType": "FMWK",
        "CFBundleSupportedPlatforms": [bundle_platform],
        "LSMinimumSystemVersion" if is_mac else "MinimumOSVersion": oldest,
    }.items():
        check(info.get(key) == value, f"{framework}: {key} is {info.get(key)}, expected {value}")
    for key in ("CFBundleIdentifier", "CFBundleShortVersionString", "CFBundleVersion"):
        check(re.fullmatch(r"[A-Za-z0-9.-]+", info.get(key, "")) is not None, f"{framework}: {key}")
    header = (framework / "Headers/confer.h").read_text()
    check(header == (ROOT / "include/confer.h").read_text(), f"{framework}: another header than include/confer.h")
    modules = (framework / "Modules/module.modulemap").read_text()
    declared = re.match(r"framework module (\w+) \{\n", modules)
    check(declared is not None and declared[1] == name, f"{framework}: the module is not {name}")
    named = re.findall(r'header "([^"]+)"', modules)
    check(named == ["confer.h"], f"{framework}: the module map names {named}")
    check(name != "Confer", f"{framework}: Confer is the module of the Swift package")
    if is_mac:
        check((framework / "Versions/Current").is_symlink(), f"{framework}: macOS wants Versions/Current")


def check_zip(packed: Path, root: Path) -> None:
    """Compares the ZIP file with the folder, link by link."""
    want = {str(it.relative_to(root.parent)) for it in root.rglob("*") if it.is_symlink() or it.is_file()}
    with zipfile.ZipFile(packed) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        check({name for name in entries if name.startswith(root.name)} == want, f"{packed}: other files than {root}")
        for name in want:
            path, mode = root.parent / name, entries[name].external_attr >> 16
            check(stat.S_ISLNK(mode) == path.is_symlink(), f"{packed}: {name}: mode {mode:o}")
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            check(archive.read(name) == content, f"{packed}: {name} differs")
        for name in ("LICENSE-APACHE", "LICENSE-MIT"):
            check(archive.read(name) == (ROOT / name).read_bytes(), f"{packed}: {name}")
        for system in ("ios", "macos"):
            check(b"aws-lc" in archive.read(f"{system}/THIRD-PARTY-LICENCES.txt"), f"{packed}: licences for {system}")
            check(f"{system}/libconfer.cdx.json" in entries, f"{packed}: bill of materials for {system}")
    checksum = hashlib.sha256(packed.read_bytes()).hexdigest()
    check(packed.with_name(packed.name + ".sha256").read_text() == f"{checksum}  {packed.name}\n", f"{packed}: checksum")


def main() -> None:
    root, packed, ios, macos = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    info = plistlib.loads((root / "Info.plist").read_bytes())
    check(info.get("CFBundlePackageType") == "XFWK", "CFBundlePackageType is not XFWK")
    check(info.get("XCFrameworkFormatVersion") == "1.0", "XCFrameworkFormatVersion is not 1.0")
    found = set()
    for library in info["AvailableLibraries"]:
        key = (library["SupportedPlatform"], library.get("SupportedPlatformVariant"))
        check(key in PLATFORMS and key not in found, f"platform {key}")
        found.add(key)
        cpus, bundle_platform, platform = PLATFORMS[key]
        check(set(library["SupportedArchitectures"]) == cpus, f"{key}: CPUs {library['SupportedArchitectures']}")
        oldest = macos if platform == "macos" else ios
        folder = root / library["LibraryIdentifier"]
        framework = folder / library["LibraryPath"]
        check(framework.is_dir() and framework.suffix == ".framework", f"{framework} is no framework")
        check_framework(framework, bundle_platform, oldest)
        binary = folder / library["BinaryPath"]
        check(binary.resolve() == (framework / framework.stem).resolve(), f"BinaryPath {library['BinaryPath']}")
        used = check_library(binary, cpus, platform, oldest)
        resources = framework / "Resources" if platform == "macos" else framework
        check_privacy(resources / "PrivacyInfo.xcprivacy", used)
    check(found == set(PLATFORMS), f"platforms {found}")
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    check(folders == {it["LibraryIdentifier"] for it in info["AvailableLibraries"]}, f"folders {folders}")
    check_zip(packed, root)
    print(f"{len(found)} frameworks")


if __name__ == "__main__":
    main()
