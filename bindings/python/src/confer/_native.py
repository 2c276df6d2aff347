"""Handles, texts and callbacks of the C API."""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from . import _abi as c

H = TypeVar("H", bound=ctypes.c_void_p)


class Owned(Generic[H]):
    """A handle that this object frees.

    It is freed only when the last reference to this object ends, and every call holds one. So no
    thread uses a freed handle, also after a close. Copies are the same object.
    """

    __slots__ = ("__weakref__", "_free", "_keeps", "raw")

    def __init__(self, raw: H, free: Callable[[H], None], keeps: object = None) -> None:
        self.raw = raw
        self._free = free
        self._keeps = keeps

    def __copy__(self) -> Owned[H]:
        return self

    def __deepcopy__(self, _: object) -> Owned[H]:
        return self

    def __del__(self) -> None:
        # At the end of the process, freeing could run a callback in an interpreter that has ended.
        if not sys.is_finalizing():
            self._free(self.raw)


def text(getter: Callable[[H, Any], int | None], handle: H) -> str | None:
    """Copies the text of a getter."""
    content = raw(getter, handle)
    return None if content is None else content.decode()


def raw(getter: Callable[[H, Any], int | None], handle: H) -> bytes | None:
    """Copies the bytes of a getter."""
    length = ctypes.c_size_t()
    address = getter(handle, ctypes.byref(length))
    return None if address is None else ctypes.string_at(address, length.value)


def text_at(getter: Callable[[H, int, Any], int | None], handle: H, index: int) -> str | None:
    """Copies the text of a getter with an index."""
    return text(lambda h, length: getter(h, index, length), handle)


def utf8(value: str) -> bytes:
    """Encodes a text. Lone surrogates become bytes that the library refuses as no UTF-8."""
    return value.encode("utf-8", "surrogatepass")


def known(number: int) -> int | None:
    """Turns the -1 of a getter into None."""
    return None if number < 0 else number


# The objects that callbacks use, by the number that the library knows as their user data. The
# library removes each with `destroyed`.
_callables: dict[int, Any] = {}
_numbers = itertools.count(1)
_last_number = 0


def registered(target: Any) -> int:
    """Keeps an object for callbacks until the library destroys it."""
    global _last_number
    number = _last_number = next(_numbers)
    _callables[number] = target
    return number


def ever_registered() -> bool:
    """Whether a thread of the library may call Python, or has."""
    return _last_number > 0


def target(user_data: int) -> Any:
    """The object of a callback, None if the library has destroyed it."""
    return _callables.get(user_data)


def _destroy(user_data: int) -> None:
    _callables.pop(user_data, None)


# Each callback is made once and never freed.
destroyed = c.confer_destroy_fn(_destroy)
