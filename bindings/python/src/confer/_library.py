"""Loads libconfer, and declares its functions."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

_NAME = {"darwin": "libconfer.0.dylib", "win32": "confer.dll"}.get(sys.platform, "libconfer.so.0")


def _path() -> str:
    """The library that CONFER_LIBRARY names, else the wheel's, else the system's."""
    if named := os.environ.get("CONFER_LIBRARY"):
        return named
    inside = Path(__file__).parent / _NAME
    return str(inside) if inside.exists() else _NAME


def _load() -> tuple[ctypes.CDLL, ctypes.PyDLL]:
    path = _path()
    try:
        return ctypes.CDLL(path), ctypes.PyDLL(path)
    except OSError as error:
        raise ImportError(f"cannot load libconfer: {error}. Install the wheel, or set CONFER_LIBRARY") from error


_cdll, _pydll = _load()


def waiting(name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """Declares a function that may wait. It releases the GIL."""
    return _declared(_cdll, name, result, arguments)


def quick(name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """Declares a function that never waits, and takes no lock under which a callback runs.

    It keeps the GIL: taking the GIL again can last long while other threads compute.
    """
    return _declared(_pydll, name, result, arguments)


def _declared(library: ctypes.CDLL, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    try:
        declared = getattr(library, name)
    except AttributeError:
        raise ImportError(f"{_path()} has no {name}: it is another version than this package") from None
    declared.restype = result
    declared.argtypes = list(arguments)
    return declared


class _Checked:
    """An integer argument. ctypes would cut a number that is too large."""

    low: ClassVar[int]
    high: ClassVar[int]
    native: ClassVar[Any]

    @classmethod
    def from_param(cls, value: int) -> Any:
        if not isinstance(value, int):
            raise TypeError(f"expected an integer, not {type(value).__name__}")
        if not cls.low <= value <= cls.high:
            raise OverflowError(f"expected a number from {cls.low} to {cls.high}, found {value}")
        return cls.native(value)


class Int32(_Checked):
    low, high, native = -(2**31), 2**31 - 1, ctypes.c_int32


class UInt32(_Checked):
    low, high, native = 0, 2**32 - 1, ctypes.c_uint32


class Int64(_Checked):
    low, high, native = -(2**63), 2**63 - 1, ctypes.c_int64


class UInt64(_Checked):
    low, high, native = 0, 2**64 - 1, ctypes.c_uint64


class Constant(IntEnum):
    """An enumeration of the header. A number of a later version gets a member UNKNOWN_<number>."""

    @classmethod
    def _missing_(cls, value: object) -> Constant | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member
