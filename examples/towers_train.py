"""Pre-train the two small towers on unimodal labels of procedural things that no forged event uses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro
from avtasks.forge import Procedural
from avtasks.towers import build_small_towers, load_small_towers, save_small_towers
from avtasks.towers.pretraining import label_parts, picture_batches, sound_batches, train_tower
from torch import Tensor, nn

from avexperts import HTSATFrontEnd


@dataclass(frozen=True)
class Config:
    """Settings of the pre-training."""

    out: Path = Path("runs/towers")
    """Folder for the two weight files, small_towers.json and metrics.json."""
    seed: int = 0
    """Of the fresh towers and of every picture and sound."""
    first: int = 28
    """Index of the first thing to learn; those before it are left to the events of the forged datasets."""
    classes: int = 356
    """How many things to learn."""
    vision_steps: int = 4000
    """Optimizer steps of the tower that sees; 0 leaves it as --start has it."""
    audio_steps: int = 1000
    """Optimizer steps of the tower that hears; 0 leaves it as --start has it."""
    vision_learning_rate: float = 1e-3
    """Highest learning rate of the tower that sees."""
    audio_learning_rate: float = 2e-3
    """Highest learning rate of the tower that hears."""
    batch_size: int = 64
    """Pictures or sounds a step."""
    variants: int = 4
    """Sounds of 8 seconds each thing is given."""
    start: Path | None = None
    """Folder of towers to go on from; fresh ones by default."""
    smoke: bool = False
    """A few steps of everything, to see that it runs."""


def main(config: Config) -> None:
    """Train both towers one after the other and write them."""
    if config.smoke:
        config = replace(config, classes=4, vision_steps=3, audio_steps=3, variants=1)
    assets = Procedural(config.classes, first=config.first)
    vision, audio = fresh_towers(config.seed) if config.start is None else load_small_towers(config.start)
    rows = []
    if config.vision_steps:
        looks = label_parts([asset.look for asset in assets])
        rows.append(train(config, "vision", vision, vision, picture_batches(assets), looks))
    if config.audio_steps:
        voices = label_parts([asset.voice for asset in assets])
        front_end = HTSATFrontEnd(clip_samples=None)
        batch = sound_batches(assets, front_end, variants=config.variants, seed=config.seed)
        rows.append(train(config, "audio", audio, lambda mel: audio(mel).pooler_output, batch, voices))
    settings = {key: value for key, value in asdict(config).items() if key not in ("out", "start")}
    save_small_towers(vision, audio, config.out, {"program": "towers_train.py", **settings, "rows": rows})
    write_metrics(config.out, rows)


def fresh_towers(seed: int) -> tuple[nn.Module, nn.Module]:
    """Both towers with random weights; timm's zero gains of Swin-V2's norms are raised, which saves steps."""
    torch.manual_seed(seed)
    vision, audio = build_small_towers()
    for block in (block for stage in vision.layers for block in stage.blocks):
        nn.init.constant_(block.norm1.weight, 0.3)
        nn.init.constant_(block.norm2.weight, 0.3)
    return vision, audio


def train(
    config: Config,
    name: str,
    tower: nn.Module,
    features: Callable[[Tensor], Tensor],
    batch: Callable,
    labels: Tensor,
) -> dict[str, object]:
    """Train one tower; its row for the metrics."""
    start = time.perf_counter()
    accuracy = train_tower(
        features,
        list(tower.train().parameters()),
        batch,
        counts=(labels.amax(0) + 1).tolist(),
        width=128,
        steps=getattr(config, f"{name}_steps"),
        batch_size=config.batch_size,
        learning_rate=getattr(config, f"{name}_learning_rate"),
        seed=config.seed,
        report=lambda step, loss, hit: print(f"{name} {step:5d}  loss {loss:.3f}  {hit:.1f} %", flush=True),
    )
    tower.eval()
    row = {"name": name, "seed": config.seed, "accuracy": round(accuracy, 2)}
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def write_metrics(out: Path, rows: list[dict[str, object]]) -> None:
    """Write ``metrics.json`` and print its rows."""
    metrics = {
        "task": "unimodal pre-training",
        "rows": rows,
        "versions": {"torch": torch.__version__},
        "data": {"real": [], "forged": ["procedural pictures", "procedural sounds"]},
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['name']:8s}{row['accuracy']:6.1f} % of single things named   {row['seconds']:.0f} s")


if __name__ == "__main__":
    main(tyro.cli(Config))
