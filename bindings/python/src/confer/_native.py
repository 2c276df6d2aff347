"""Handles, texts and callbacks of the C API."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import sys
import threading
import time
from collections.abc import Callable, ItemsView, Iterator, Mapping
from typing import Any, Generic, NoReturn, TypeVar

from . import _abi as c

H = TypeVar("H", bound=ctypes.c_void_p)
T = TypeVar("T")
F = TypeVar("F")
K = TypeVar("K")
V = TypeVar("V")

#: How long a thread pauses that uses a client while the process ends, in seconds.
_PAUSE = 5.0


class Owned(Generic[H]):
    """A handle that this object frees. It is made before the library fills it, so that an interrupt
    of making loses none.

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

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle of the library cannot be pickled: it exists only in this process")

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of the process, freeing could run a callback in an interpreter that has ended. This
        # module's globals may be gone then.
        if not is_finalizing():
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
    return str.encode(expected(str, value), "utf-8", "surrogatepass")


def expected(kind: type[T], value: T) -> T:
    """Refuses a value of another type. Its content can be a secret."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def function(name: str, value: F) -> F:
    """Refuses a value that cannot be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{name}: expected a function, not {type(value).__name__}")
    return value


def known(number: int) -> int | None:
    """Turns the -1 of a getter into None."""
    return None if number < 0 else number


# The objects that callbacks use, by the number that the library knows as their user data. The
# library removes each with `destroyed`.
_callables: dict[int, Any] = {}
_numbers = itertools.count(1)
_last_number = 0


@contextlib.contextmanager
def registered(target: Any) -> Iterator[int]:
    """Keeps an object for callbacks until the library destroys it, or the call that gives its number to
    the library fails."""
    global _last_number
    number = _last_number = next(_numbers)
    _callables[number] = target
    try:
        yield number
    except BaseException:
        _callables.pop(number, None)
        raise


def ever_registered() -> bool:
    """Whether a thread of the library may call Python, or has."""
    return _last_number > 0


def pairs(name: str, value: Mapping[K, V]) -> ItemsView[K, V]:
    """The items of a mapping that the application gave."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a mapping, not {type(value).__name__}")
    return value.items()


def returned_text(name: str, value: object) -> str:
    """Refuses the result of an application's function if it is no text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must return a text, not {type(value).__name__}")
    return value


def on_main_thread() -> bool:
    # Without threading.current_thread(), which keeps an entry for each thread of the library.
    return threading.get_ident() == threading.main_thread().ident


class Exit:
    """Whether the process ends: clients are closed because their callbacks must end."""

    begun = False

    @classmethod
    def pause_thread(cls) -> None:
        """Delays a thread of the application while the process ends. Python stops a daemon thread a
        moment later, which should print no error before. If an exit handler waits for the thread,
        it gets its error after the delay."""
        if cls.begun and not on_main_thread():
            time.sleep(_PAUSE)


def target(user_data: int) -> Any:
    """The object of a callback, None if the library has destroyed it."""
    return _callables.get(user_data)


def _destroy(user_data: int) -> None:
    _callables.pop(user_data, None)


# Each callback is made once and never freed.
destroyed = c.confer_destroy_fn(_destroy)
