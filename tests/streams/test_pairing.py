from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avexperts import SiteInfo, pair_sites


def table(*depths: int, parts: tuple[str, ...] = ("attn", "mlp")) -> list[SiteInfo]:
    return [
        SiteInfo(f"stages.{stage}.blocks.{block}.{part}", 4, 8, False)
        for stage, depth in enumerate(depths)
        for block in range(depth)
        for part in parts
    ]


def test_avmoe_pairs_the_last_block_of_each_group() -> None:
    pairs = pair_sites({"vision": table(2, 2, 18, 2), "audio": table(2, 2, 6, 2, parts=("block", "out"))})
    third = [pair for pair in pairs if pair["vision"].startswith("stages.2.")]
    assert len(pairs) == 24
    assert [pair["vision"] for pair in third[::2]] == [f"stages.2.blocks.{i}.attn" for i in (2, 5, 8, 11, 14, 17)]
    assert [pair["audio"] for pair in third[1::2]] == [f"stages.2.blocks.{i}.out" for i in range(6)]


@pytest.mark.parametrize(
    ("skip_every", "stages"), [(1, [0, 1, 2, 3]), (2, [0, 2]), (3, [0, 1, 3]), (4, [0, 1, 2]), (None, [0, 1, 2, 3])]
)
def test_skipping_every_nth_stage(skip_every: int | None, stages: list[int]) -> None:
    towers = {"vision": table(1, 1, 1, 1), "audio": table(1, 1, 1, 1)}
    pairs = pair_sites(towers, skip_every=skip_every, parts=(0,))
    assert [pair["audio"] for pair in pairs] == [f"stages.{i}.blocks.0.attn" for i in stages]


def test_stages_can_be_chosen() -> None:
    pairs = pair_sites({"vision": table(1, 1), "audio": table(1, 1)}, stages=[1], parts=[1])
    assert pairs == [{"vision": "stages.1.blocks.0.mlp", "audio": "stages.1.blocks.0.mlp"}]


@given(st.lists(st.integers(1, 30), min_size=2, max_size=4))
def test_even_pairing_of_any_depths_is_monotone_and_ends_at_the_last_blocks(depths: list[int]) -> None:
    towers = {f"stream{i}": table(depth, parts=("block",)) for i, depth in enumerate(depths)}
    pairs = pair_sites(towers, "even")
    assert len(pairs) == min(depths)
    for stream, rows in towers.items():
        order = [[row.name for row in rows].index(pair[stream]) for pair in pairs]
        assert order == sorted(set(order))
        assert order[-1] == len(rows) - 1


def test_explicit_pairs_name_blocks_or_sites() -> None:
    towers = {"vision": table(2), "audio": table(2)}
    by_block = pair_sites(towers, [{"vision": "stages.0.blocks.1", "audio": "stages.0.blocks.0"}])
    by_site = pair_sites(towers, [{"vision": "stages.0.blocks.1.mlp", "audio": "stages.0.blocks.0.attn"}])
    assert [pair["vision"] for pair in by_block] == ["stages.0.blocks.1.attn", "stages.0.blocks.1.mlp"]
    assert by_site == [{"vision": "stages.0.blocks.1.mlp", "audio": "stages.0.blocks.0.attn"}]


@pytest.mark.parametrize(
    ("towers", "how", "message"),
    [
        ({"vision": table(2, 2), "audio": table(2)}, {}, "different numbers of stages.*pairing='even'"),
        ({"vision": table(3), "audio": table(2)}, {}, "stage 0 has .* do not divide into groups"),
        ({"vision": table(2), "audio": []}, {}, r"without sites: \['audio'\]"),
        ({"vision": table(2)}, {}, "two or more streams"),
        ({"vision": table(2), "audio": table(2, parts=("block",))}, {}, "different numbers of sites"),
        ({"vision": table(2), "audio": table(2)}, {"how": "odd"}, "how is"),
        ({"vision": table(2), "audio": table(2)}, {"stages": [1]}, r"stages \[1\] do not exist"),
        ({"vision": table(2), "audio": table(2)}, {"parts": [2]}, "do not all exist"),
        ({"vision": table(2), "audio": table(2)}, {"skip_every": 0}, "at least 1"),
        ({"vision": table(2), "audio": table(2)}, {"how": "even", "skip_every": 2}, "last_of_group"),
        ({"vision": table(2), "audio": table(2)}, {"how": [{"vision": "nowhere"}]}, "no site or block 'nowhere'"),
        ({"vision": table(2), "audio": table(2)}, {"how": [{"depth": "x"}]}, "unknown stream 'depth'"),
    ],
)
def test_towers_that_cannot_be_paired(towers, how, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_sites(towers, **how)
