"""What is compiled is told of, and what is in the cache is not."""

from __future__ import annotations

import pytest
from numba import njit

from tradecore import compiling


def test_a_function_is_compiled_once_and_told_of_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "TELL_AFTER_S", 0.0)

    @njit
    def inner(x):
        return x + 1.0

    @njit
    def outer(x):
        return inner(x) * 2.0

    told: list[tuple[float, int, bool]] = []
    with compiling.told(lambda *what: told.append(what)) as seen:
        assert outer(1.0) == 4.0
        assert outer(2.0) == 6.0
    assert seen.functions == 2
    assert seen.seconds > 0.0
    assert told[-1][1:] == (2, True)
    assert told[-1][0] == pytest.approx(seen.seconds)
    with compiling.watched() as again:
        outer(3.0)
    assert (again.functions, again.seconds) == (0, 0.0)


def test_what_was_watched_is_let_go_when_it_fails():
    @njit
    def broken(x):
        return x + 1

    with pytest.raises(ZeroDivisionError), compiling.watched() as seen:
        raise ZeroDivisionError
    broken(1)
    assert seen.functions == 0, "nobody listens any more"


def test_little_is_not_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "TELL_AFTER_S", 60.0)

    @njit
    def small(x):
        return x

    with compiling.told(lambda *_: pytest.fail("it is nobody's business")) as seen:
        small(1)
    assert seen.functions == 1
