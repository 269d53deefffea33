"""Seeds of scripts' random numbers."""

from __future__ import annotations

from runtime.seeds import Seeds


def test_no_seed_comes_twice() -> None:
    one, two = Seeds(), Seeds()
    made = [seeds.next() for seeds in (one, two) for _ in range(1000)]
    assert len(set(made)) == 2000
    assert {len(seed) for seed in made} == {32}
