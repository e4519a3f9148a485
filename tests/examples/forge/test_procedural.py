from __future__ import annotations

import numpy as np
import pytest
from avtasks.forge import Procedural


def test_ranges_that_do_not_overlap_share_neither_look_nor_voice():
    events, others = Procedural(28), Procedural(356, first=28)
    assert len({asset.name for asset in [*events, *others]}) == 384
    assert not {asset.voice for asset in events} & {asset.voice for asset in others}


def test_the_same_seed_gives_the_same_things_and_another_seed_others():
    assert [a.name for a in Procedural(5)] == [a.name for a in Procedural(5)]
    assert [a.name for a in Procedural(5)] != [a.name for a in Procedural(5, seed=1)]


@pytest.mark.parametrize("index", range(0, 40, 7))
def test_picture_and_sound_vary_and_keep_their_form(index):
    asset, rng = Procedural(40)[index], np.random.default_rng(0)
    one, two = asset.picture(rng, 20), asset.picture(rng, 20)
    assert one.shape == (20, 20, 4)
    assert one.dtype == np.uint8
    assert (one != two).any()
    assert (one[..., 3] > 200).mean() > 0.1
    wave, other = asset.sound(rng, 0.5), asset.sound(rng, 0.5)
    assert wave.shape == (16000,)
    assert wave.dtype == np.float32
    assert np.isfinite(wave).all()
    assert abs(float(np.sqrt(np.mean(wave**2))) - 1) < 1e-3
    assert (wave != other).any()


def test_more_things_than_there_are():
    with pytest.raises(ValueError, match="there are 384 procedural things"):
        Procedural(10, first=380)
