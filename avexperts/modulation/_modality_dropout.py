# Shapes: B samples, d_m features of modality m, M modalities.
from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ._drop_features import check_dims, check_features, drop_features


class ModalityDropout(nn.Module):
    r"""Drop each modality of each sample with a constant probability: what OPM has to be compared with.

    Called like :class:`OnTheFlyPredictionModulation`, without a ratio: whole feature vectors are dropped while
    training, the rest is divided by :math:`1 - \sum_m d_m q_m / \sum_m d_m`, and samples of which nothing is left get
    weight 0.

    Args:
        dims: Widths :math:`d_m` of the features by modality.
        probability: :math:`q_m` of every modality, or by modality.
        rescale: Divide as above.

    Raises:
        ValueError: There are fewer than two modalities, or a probability is not in [0, 1) or for none of them.

    Example:
        >>> drop = ModalityDropout({"audio": 4, "vision": 6}, probability={"audio": 0.25, "vision": 0.0})
        >>> features, keep = drop({"audio": torch.ones(3, 4), "vision": torch.ones(3, 6)})
        >>> bool((features["vision"] > 1).all()), keep
        (True, tensor([1., 1., 1.]))
    """

    def __init__(
        self, dims: Mapping[str, int], *, probability: float | Mapping[str, float] = 0.25, rescale: bool = True
    ) -> None:
        super().__init__()
        self.dims, self.rescale = check_dims(dims), rescale
        each = probability if isinstance(probability, Mapping) else dict.fromkeys(dims, probability)
        if set(each) != set(dims) or not all(0 <= q < 1 for q in each.values()):
            raise ValueError(f"probability must be in [0, 1), for {list(dims)}, got {probability}")
        self.probabilities: Tensor
        self.register_buffer("probabilities", torch.tensor([each[name] for name in dims]), persistent=False)

    def forward(self, features: dict[str, Tensor], *, draws: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Drop features.

        Args:
            features: Pooled features ``(B, d_m)`` by modality.
            draws: Uniform draws ``(B, M)`` to use instead of the global random state.

        Returns:
            The features, and the weight of each sample, ``(B,)`` float32: 0 where nothing of it is left, else 1.

        Raises:
            ValueError: Features do not fit the widths.
        """
        first = check_features(features, self.dims)
        if not self.training:
            return features, torch.ones(len(first), device=first.device)
        if draws is None:
            draws = torch.rand(len(first), len(self.dims), device=first.device)
        return drop_features(features, self.dims, self.probabilities.to(first.device), draws, rescale=self.rescale)
