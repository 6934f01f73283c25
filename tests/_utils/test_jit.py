"""Compilation with and without a place to keep its results."""

import numba
import pytest

from flowdetect._utils.jit import cached


def test_no_folder_to_cache_in_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_plainly = numba.njit

    def refuse_cache(**options: object) -> object:
        if "cache" in options:
            raise RuntimeError("cannot cache function: no locator available for file")
        return compile_plainly(**options)

    monkeypatch.setattr(numba, "njit", refuse_cache)
    assert cached(lambda x: x + 1)(1) == 2
