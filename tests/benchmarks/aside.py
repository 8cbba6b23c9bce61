"""A function in a process of its own, so that a client never shares an interpreter with others."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Generic, ParamSpec, TypeVar

from tests.benchmarks.link import LoadFailed, Unable

T = TypeVar("T")
P = ParamSpec("P")


def _call(into: Connection, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        into.send(function(*args, **kwargs))
    except (LoadFailed, Unable) as error:
        into.send(error)
    except OSError as error:
        into.send(LoadFailed(f"{type(error).__name__}: {error}"))
    except Exception:
        # The root of this process: `result` raises it in the other one.
        into.send(LoadFailed(traceback.format_exc()))


class Aside(Generic[T]):
    """A call that runs beside this process.

    Args:
        function: A function of a module; it and its arguments are sent over.
    """

    def __init__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        context = multiprocessing.get_context("spawn")
        self._from, into = context.Pipe(duplex=False)
        self._process = context.Process(target=_call, args=(into, function, *args), kwargs=kwargs)
        self._process.start()
        into.close()

    @property
    def is_done(self) -> bool:
        """Whether `result` would not wait."""
        return self._from.poll(0)

    def result(self, within: float) -> T:
        """What the function returns.

        Args:
            within: Seconds from now.

        Raises:
            Unable: It raised that.
            LoadFailed: It raised anything else, or took too long and was ended.
        """
        try:
            if not self._from.poll(within):
                raise LoadFailed(f"the client was not done within {within:.0f} s")
            value = self._from.recv()
        except EOFError as error:
            raise LoadFailed("the client's process ended without a word") from error
        finally:
            self._end()
        if isinstance(value, Exception):
            raise value
        result: T = value
        return result

    def _end(self) -> None:
        self._process.join(1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
        self._from.close()


def beside(within: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a function in a process of its own, and waits for it.

    Raises:
        Unable: See `Aside.result`.
        LoadFailed: Likewise.
    """
    return Aside(function, *args, **kwargs).result(within)
