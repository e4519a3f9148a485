from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SceneSettings:
    """What forged clips of all tasks look and sound like.

    Attributes:
        clips: Clips to train, validate and test.
        seed: Of everything that is drawn; the same for all training seeds.
        object_sizes: Smallest and largest object in pixels.
        views: Pictures drawn of each class and split.
        takes: Recordings of 10 s made of each class and split.
        level_spread: Sounds differ in level by up to twice this many dB.
        sound_noise: Level of the hiss in dB against a sound.
        picture_noise: Standard deviation of the pixel noise, frames being 0 to 1.
        contrast: 1 keeps the colours, smaller pulls them to grey.
        inverted: Turn colours into their opposites.
        telephone: Let only 300 to 3400 Hz pass.
    """

    clips: tuple[int, int, int] = (600, 120, 200)
    seed: int = 0
    object_sizes: tuple[int, int] = (20, 28)
    views: int = 100
    takes: int = 12
    level_spread: float = 4.0
    sound_noise: float = -25.0
    picture_noise: float = 0.04
    contrast: float = 1.0
    inverted: bool = False
    telephone: bool = False
