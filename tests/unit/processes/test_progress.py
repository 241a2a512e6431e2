"""
What a child is found to do while it has something to do.
"""

import os
from pathlib import Path

import pytest

from cftpki_ext.processes.progress import LOOKS, Seen, Stillness, Watch, look

STILL = {Watch.NOTHING: set(), Watch.STOPPED: {"T", "t"}, Watch.IDLE: {"T", "t", "S"}}


@pytest.mark.parametrize("watch", Watch)
@pytest.mark.parametrize("state", ["R", "S", "D", "T", "t", "Z", "X"])
def test_states_that_count(watch, state):
    stillness = Stillness(watch)
    found = [stillness.add(1, Seen(state, 7)) for _ in range(LOOKS + 1)]
    assert [False] * (LOOKS - 1) == found[: LOOKS - 1]
    # The first look at a sleeping one has nothing to compare with.
    assert (state in STILL[watch]) == found[LOOKS]


@pytest.mark.parametrize("other", [(2, Seen("S", 7)), (1, Seen("S", 8)), (1, Seen("R", 7)), (1, None)])
def test_another_call_or_any_progress_begins_anew(other):
    stillness = Stillness(Watch.IDLE)
    for _ in range(LOOKS):
        assert not stillness.add(1, Seen("S", 7))
    assert not stillness.add(*other)
    found = [stillness.add(1, Seen("S", 7)) for _ in range(LOOKS + 1)]
    assert [False] * (LOOKS - 1) == found[: LOOKS - 1]
    assert found[LOOKS]


def test_look_is_at_the_process_itself():
    seen = look(os.getpid())
    assert seen is not None
    assert "R" == seen.state
    assert seen.ticks > 0
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert None is look(highest + 1)
