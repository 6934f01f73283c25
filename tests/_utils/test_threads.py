"""Parts of work in threads: all of it once, errors raised, also after a fork."""

import threading

import pytest
import torch

from flowdetect._utils.threads import run_parts, serial_torch, thread_count


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)


@pytest.mark.parametrize(
    ("n_units", "most", "n_parts"), [(0, 9, 1), (1, 9, 1), (2, 9, 2), (7, 0, 1), (7, 2, 2), (1000, 9, 3)]
)
def test_every_unit_is_worked_on_once(n_units: int, most: int, n_parts: int) -> None:
    done: list[tuple[int, int, int]] = []
    assert run_parts(lambda *part: done.append(part), n_units, most=most) == n_parts
    assert sorted(part for part, _, _ in done) == list(range(n_parts))
    assert sorted(i for _, first, last in done for i in range(first, last)) == list(range(n_units))


def test_parts_run_in_threads_of_their_own() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def work(part: int, first: int, last: int) -> None:
        meeting.wait()

    run_parts(work, 2, most=9)
    assert not meeting.broken


@pytest.mark.parametrize("wrong", [0, 2])
def test_an_error_in_any_part_is_raised_when_all_have_ended(wrong: int) -> None:
    ended = []

    def work(part: int, first: int, last: int) -> None:
        if part == wrong:
            raise RuntimeError(f"part {part}")
        ended.append(part)

    with pytest.raises(RuntimeError, match=f"part {wrong}"):
        run_parts(work, 3, most=9)
    assert len(ended) == 2


def test_torch_is_serial_for_a_while_and_parts_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with serial_torch():
            assert (torch.get_num_threads(), thread_count()) == (1, 3)
            with serial_torch():
                assert (torch.get_num_threads(), thread_count()) == (1, 3)
            assert (torch.get_num_threads(), thread_count()) == (1, 3)
        assert (torch.get_num_threads(), thread_count()) == (3, 3)
    finally:
        torch.set_num_threads(before)
