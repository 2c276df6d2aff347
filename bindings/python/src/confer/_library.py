"""Loads libconfer, and declares its functions."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

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
    declared.argtypes = [kind.native if isinstance(kind, Number) else kind for kind in arguments]
    numbers = [(index, kind) for index, kind in enumerate(arguments) if isinstance(kind, Number)]
    if not numbers:
        return declared

    def call(*given: Any) -> Any:
        for index, kind in numbers:
            kind.check(name, given[index])
        return declared(*given)

    call.__name__ = name
    return call


class Number(NamedTuple):
    """The type of a number. ctypes would cut an integer that is too large, and names no function."""

    native: Any
    #: The bounds of an integer. Without them it is a double.
    bounds: tuple[int, int] | None = None

    def check(self, function: str, value: object) -> None:
        if self.bounds is None:
            if not isinstance(value, (int, float)):
                raise TypeError(f"{function}: expected a number, not {type(value).__name__}")
            float(value)  # OverflowError
        elif not isinstance(value, int):
            raise TypeError(f"{function}: expected an integer, not {type(value).__name__}")
        elif not self.bounds[0] <= value <= self.bounds[1]:
            raise OverflowError(f"{function}: expected a number from {self.bounds[0]} to {self.bounds[1]}")


Double = Number(ctypes.c_double)
Int32 = Number(ctypes.c_int32, (-(2**31), 2**31 - 1))
UInt32 = Number(ctypes.c_uint32, (0, 2**32 - 1))
Int64 = Number(ctypes.c_int64, (-(2**63), 2**63 - 1))
UInt64 = Number(ctypes.c_uint64, (0, 2**64 - 1))


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

    def __reduce_ex__(self, _: object) -> tuple[type[Constant], tuple[int]]:
        # Some versions of Python 3.11 copy a member by its name.
        return type(self), (self._value_,)
