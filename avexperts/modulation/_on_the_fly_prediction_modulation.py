# Shapes: B samples, d_m features of modality m, M modalities.
from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ._drop_features import check_dims, check_features, drop_features
from ._drop_probabilities import drop_probabilities
from ._window import Window


class OnTheFlyPredictionModulation(nn.Module):
    r"""OPM: drop the features of the modality that leads, for a random part of the samples (TPAMI 2024).

    It sits between the encoders and the fused head. In one training step of two, or ``execute`` of all, each
    modality's whole feature vector is dropped with probability :math:`q_m` (:func:`drop_probabilities`), independently
    per sample, and all features are divided by :math:`1 - \sum_m d_m q_m / \sum_m d_m`. The modality that leads least
    is never dropped. It has no parameters, and does nothing in evaluation mode or outside of its window.

    Samples of which nothing is left get weight 0 instead of being taken out: shapes are static and nothing waits for
    the device. Weigh the loss with them, ``(keep * losses).sum() / keep.sum().clamp_min(1)``.

    Draws come from the global random state, so that ``torch.compile`` takes it in one graph and activation
    checkpointing repeats them; processes that are seeded differently draw differently.

    Args:
        dims: Widths :math:`d_m` of the features by modality, in the order of the ratios.
        base: :math:`q_0`, probability at the slightest lead. Published: 0.5 (TPAMI), 0.4 (BalanceBenchmark).
        strength: :math:`\lambda`, how much a large lead adds to it.
        execute: Share of the steps in which anything is dropped.
        rescale: Divide as above.
        start: First epoch in which it acts (:meth:`set_epoch`).
        end: Last one; None for all.
        warmup: It acts in no epoch below this, whatever the window says; the TPAMI code has 6.
        generator: Where to draw from instead; not traced by ``torch.compile``.
        published_gradient: The TPAMI code gives the divisor's share :math:`\theta = \sum_m d_m q_m / \sum_m d_m` the
            gradient :math:`\theta`, whatever the loss, and it reaches the encoders through ratio and scores. True
            repeats that, given a ratio that carries gradient. Otherwise the ratio is a constant.

    Raises:
        ValueError: There are fewer than two modalities, a probability is out of range, or no epoch is in the window.

    Example:
        >>> modulate = OnTheFlyPredictionModulation({"audio": 4, "vision": 6}, execute=1.0)
        >>> features = {"audio": torch.ones(3, 4), "vision": torch.ones(3, 6)}
        >>> features, keep = modulate(features, ratio=torch.tensor([2.0, 0.5]))
        >>> modulate.drop_probabilities, keep
        (tensor([0.6904, 0.0000]), tensor([1., 1., 1.]))
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        base: float = 0.5,
        strength: float = 0.5,
        execute: float = 0.7,
        rescale: bool = True,
        start: int = 0,
        end: int | None = None,
        warmup: int = 0,
        generator: torch.Generator | None = None,
        published_gradient: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= base <= 1 or not 0 <= execute <= 1 or strength < 0:
            raise ValueError(
                f"base and execute are in [0, 1] and strength is not negative, got {base}, {execute}, {strength}"
            )
        self.dims, self.base, self.strength, self.execute = check_dims(dims), base, strength, execute
        self.rescale, self.generator, self.published_gradient = rescale, generator, published_gradient
        self._window = Window(start, end, warmup).check()
        self._active = self._window.covers(0)
        self._probabilities: Tensor | None = None

    @property
    def drop_probabilities(self) -> Tensor | None:
        """Of the last call in training, ``(M,)``, also if nothing was dropped in it; None before."""
        return self._probabilities

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; it is 0 otherwise.

        Args:
            epoch: From 0.
        """
        self._active = self._window.covers(epoch)

    def forward(
        self,
        features: dict[str, Tensor],
        ratio: Tensor | None = None,
        *,
        draws: Tensor | None = None,
        execute_draw: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Drop features.

        Args:
            features: Pooled features ``(B, d_m)`` by modality.
            ratio: Discrepancy ratios of the same step, ``(M,)``, from the features as they are; None changes nothing.
            draws: Uniform draws ``(B, M)`` to use: a modality is kept where its draw is below :math:`1 - q_m`.
            execute_draw: Uniform draw (0-d) to use: anything is dropped where it is not below ``1 - execute``.

        Returns:
            The features, and the weight of each sample, ``(B,)`` float32: 0 where nothing of it is left, else 1.

        Raises:
            ValueError: Features or ratio do not fit the widths.
        """
        first = check_features(features, self.dims)
        everything = torch.ones(len(first), device=first.device)
        if not self.training:
            return features, everything
        if ratio is None or not self._active:
            self._probabilities = torch.zeros(len(self.dims), device=first.device)
            return features, everything
        if ratio.shape != (len(self.dims),):
            raise ValueError(f"ratio must be (M,) for modalities {list(self.dims)}, got {tuple(ratio.shape)}")
        if not self.published_gradient:
            ratio = ratio.detach()
        probabilities = drop_probabilities(ratio, base=self.base, strength=self.strength)
        self._probabilities = probabilities.detach()
        draw = torch.rand((), device=first.device, generator=self.generator) if execute_draw is None else execute_draw
        if draws is None:
            draws = torch.rand(len(first), len(self.dims), device=first.device, generator=self.generator)
        return drop_features(
            features,
            self.dims,
            probabilities * (draw >= 1 - self.execute),
            draws,
            rescale=self.rescale,
            published_gradient=self.published_gradient,
        )
