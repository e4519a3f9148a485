"""Outlines, textures and colours of the procedural pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def _star(points: int, depth: float) -> Callable[[Plane], Plane]:
    return lambda angle: 1 - depth * np.abs((angle * points / np.pi) % 2 - 1)


def _flower(petals: int, depth: float) -> Callable[[Plane], Plane]:
    return lambda angle: 1 - depth * (0.5 - 0.5 * np.cos(petals * angle))


def _polygon(corners: int) -> Callable[[Plane], Plane]:
    step = 2 * np.pi / corners
    return lambda angle: np.cos(step / 2) / np.cos(angle % step - step / 2)


def _gear(teeth: int, depth: float) -> Callable[[Plane], Plane]:
    return lambda angle: 1 - depth * (np.cos(teeth * angle) > 0)


# Radius over angle, at most 1.
OUTLINES: dict[str, Callable[[Plane], Plane]] = {
    "disc": lambda angle: np.full_like(angle, 0.85),
    "triangle": _polygon(3),
    "square": _polygon(4),
    "star": _star(5, 0.6),
    "flower": _flower(4, 0.55),
    "gear": _gear(7, 0.35),
    "leaf": lambda angle: 0.35 + 0.65 * np.abs(np.cos(angle)) ** 3,
    "cross": _gear(4, 0.62),
}

# Share of the second colour, 0 or 1, over x and y in -1..1 and a random phase.
TEXTURES: dict[str, Callable[[Plane, Plane, float], Plane]] = {
    "plain": lambda x, y, phase: np.zeros_like(x),
    "striped": lambda x, y, phase: np.sin(11 * x + phase) > 0,
    "chequered": lambda x, y, phase: np.sin(8 * x + phase) * np.sin(8 * y + phase) > 0,
    "dotted": lambda x, y, phase: np.sin(10 * x + phase) * np.sin(10 * y + phase) > 0.45,
    "ringed": lambda x, y, phase: np.sin(13 * np.hypot(x, y)) > 0,
    "split": lambda x, y, phase: x > 0.2 * np.sin(phase),
}

# Hue, saturation and value of the first and of the second colour; neighbours share colours on purpose.
COLOURS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "red-white": ((0.00, 0.9, 0.9), (0.00, 0.0, 1.0)),
    "red-blue": ((0.00, 0.9, 0.9), (0.62, 0.9, 0.8)),
    "yellow-blue": ((0.14, 0.9, 1.0), (0.62, 0.9, 0.8)),
    "yellow-black": ((0.14, 0.9, 1.0), (0.00, 0.0, 0.1)),
    "green-black": ((0.36, 0.8, 0.7), (0.00, 0.0, 0.1)),
    "green-white": ((0.36, 0.8, 0.7), (0.00, 0.0, 1.0)),
    "violet-yellow": ((0.78, 0.7, 0.8), (0.14, 0.9, 1.0)),
    "cyan-red": ((0.50, 0.8, 0.9), (0.00, 0.9, 0.9)),
}


def draw(outline: str, texture: str, colours: str, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Draw one view: turned by up to 30°, stretched, with hue, brightness and texture phase moved a little.

    Args:
        outline: Key of ``OUTLINES``.
        texture: Key of ``TEXTURES``.
        colours: Key of ``COLOURS``.
        rng: Source of the variation.
        size: Height and width in pixels.

    Returns:
        ``(size, size, 4)`` RGBA, edges smooth over one pixel.

    Example:
        >>> draw("star", "striped", "red-white", np.random.default_rng(0), 16).shape
        (16, 16, 4)
    """
    line = np.linspace(-1, 1, size, dtype=np.float32) * (1 + 1 / size)
    turn, stretch = rng.uniform(-0.5, 0.5), rng.uniform(0.85, 1.15)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x = (cos * line[None] + sin * line[:, None]) * np.float32(stretch)
    y = (cos * line[:, None] - sin * line[None]) / np.float32(stretch)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    cover = np.clip((0.95 * OUTLINES[outline](angle) - radius) * size / 2, 0, 1)
    second = np.asarray(TEXTURES[texture](x, y, float(rng.uniform(0, 6.28))), np.float32)[..., None]
    hue, value = rng.uniform(-0.025, 0.025), rng.uniform(0.85, 1.1)
    one, two = (_rgb(h + hue, s, min(v * value, 1)) for h, s, v in COLOURS[colours])
    rgb = one * (1 - second) + two * second
    return (np.concatenate([rgb, cover[..., None]], axis=-1) * 255).astype(np.uint8)


def _rgb(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    wheel = np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    return (value * (1 - saturation * (1 - np.clip(wheel, 0, 1)))).astype(np.float32)
