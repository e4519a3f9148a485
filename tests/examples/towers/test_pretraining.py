from __future__ import annotations

import numpy as np
import torch
from avtasks.forge import Procedural
from avtasks.towers.pretraining import label_parts, picture_batches, sound_batches, train_tower
from avtasks.towers.small_towers import AUDIO_SIZE, FRAME_SIZE

from avexperts import HTSATFrontEnd

THINGS = Procedural(3, first=40)


def _log_mel():
    return HTSATFrontEnd(clip_samples=None)


def test_labels_number_the_things_and_what_they_are_made_of():
    parts = label_parts([("star", "red"), ("disc", "red"), ("star", "blue")])
    assert parts.tolist() == [[0, 1, 1], [1, 0, 1], [2, 1, 0]]


def test_batches_have_the_towers_sizes():
    rng = np.random.default_rng(0)
    frames, labels = picture_batches(THINGS)(rng, 5)
    mels, names = sound_batches(THINGS, _log_mel(), variants=1, seed=0)(rng, 5)
    assert frames.shape == (5, *FRAME_SIZE)
    assert mels.shape == (5, *AUDIO_SIZE)
    assert labels.shape == names.shape == (5, 4)
    assert labels[:, 0].max() < 3


def test_training_learns_a_task_of_three_things():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU())
    prototypes = torch.randn(3, 16)

    def batch(rng, count):
        labels = torch.from_numpy(rng.integers(3, size=count))
        return prototypes[labels] + 0.1 * torch.randn(count, 16), labels[:, None]

    seen = []
    accuracy = train_tower(
        net,
        list(net.parameters()),
        batch,
        counts=[3],
        width=8,
        steps=150,
        batch_size=16,
        learning_rate=0.02,
        seed=0,
        report=lambda *row: seen.append(row),
    )
    assert accuracy > 90
    assert [step for step, _, _ in seen] == [100, 150]
