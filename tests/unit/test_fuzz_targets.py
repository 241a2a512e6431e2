"""
The fuzz targets hold on their seeds and on each seed with one byte changed: what `make fuzz` goes on from.
"""

import pytest

from tests.fuzz.targets import SEEDS, TARGETS


def test_every_target_has_seeds():
    assert set(SEEDS) == set(TARGETS)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_target_holds_on_its_seeds_and_their_neighbours(name):
    for seed in SEEDS[name]:
        TARGETS[name](seed)
        for position in range(0, len(seed), max(1, len(seed) // 60)):
            TARGETS[name](seed[:position])
            TARGETS[name](seed[:position] + bytes([seed[position] ^ 0x81]) + seed[position + 1 :])
