"""The two sets of defaults: a small run that anyone can start, and the published recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from avtasks import ave, avqa, avs, avvp
from avtasks.model import AdapterSettings
from avtasks.training import Recipe

from .settings import Folders, Forges, Heads, PromptSettings, Recipes, Settings

_SMALL_RECIPE = Recipe(epochs=6, batch_size=4, lr=3e-3, weight_decay=0.01)

_SMALL = Settings(
    forge=Forges(
        ave=ave.ForgeSettings(clips=(160, 40, 80), classes=6, inverted=True, telephone=True),
        llp=avvp.ForgeSettings(clips=(160, 40, 80), classes=6, inverted=False, contrast=1.0, picture_noise=0.04),
        avs=avs.ForgeSettings(clips=(160, 30, 60), classes=5, inverted=True, telephone=True),
        avqa=avqa.ForgeSettings(clips=(160, 40, 80)),
    ),
    heads=Heads(
        ave=ave.HeadSettings(cmbs=False),
        # so few clips teach a head of one layer more than a deep one
        llp=avvp.HeadSettings(depths=(0, 0, 0), drop_path=0.0, smoothing=0.0),
        avs=avs.HeadSettings(),
        avqa=avqa.HeadSettings(),
    ),
    prompts=PromptSettings(
        shallow=(1,),
        mid=(2,),
        deep=(3, 4),
        audio_deep=(3, 4),
        classic=(2, 3, 4),
        query_block=2,
        latents=4,
        reduction=4,
        memory=32,
        mid_length=4,
        mid_depth=2,
        mid_heads=2,
        mid_dim_head=16,
        deep_length=5,
        components=16,
    ),
    adapters=AdapterSettings(converged_head=True, head_lr=1e-3, gate_lr=1e-2, stages=(1, 2)),
    head_recipes=Recipes(
        ave=replace(_SMALL_RECIPE, epochs=30),
        llp=replace(_SMALL_RECIPE, epochs=60),
        avs=replace(_SMALL_RECIPE, epochs=20),
        avqa=replace(_SMALL_RECIPE, epochs=20),
    ),
    recipes=Recipes(
        ave=replace(_SMALL_RECIPE, epochs=5),
        llp=replace(_SMALL_RECIPE, epochs=10, lr=2e-3),
        avs=replace(_SMALL_RECIPE, epochs=8, lr=6e-3),
        avqa=_SMALL_RECIPE,
    ),
)

_PAPER_RECIPE = Recipe(
    epochs=10,
    batch_size=2,
    optimizer="adamw",
    lr=3e-4,
    weight_decay=1e-5,
    clip_norm=0.5,
    save_every=500,
    workers=4,
)

PRESETS = {
    "small": _SMALL,
    "paper": Settings(
        preset="paper",
        order=("ave", "llp", "avqa"),
        methods=("php",),
        data=Folders(
            ave=Path("data/AVE"), llp=Path("data/LLP_dataset"), avs=Path("data/AVSBench"), avqa=Path("data/AVQA")
        ),
        vision="clip:openai/clip-vit-base-patch32",
        audio="hf:laion/clap-htsat-unfused",
        in_memory=False,
        heads=Heads(kind="text"),
        prompts=PromptSettings(),
        adapters=AdapterSettings(converged_head=False, head_lr=0.0, gate_lr=0.0),
        recipes=Recipes(ave=_PAPER_RECIPE, llp=_PAPER_RECIPE, avs=_PAPER_RECIPE, avqa=_PAPER_RECIPE),
    ),
}


def shrink(settings: Settings) -> Settings:
    """Cut settings down for ``--smoke``.

    Args:
        settings: Of a whole run.

    Example:
        >>> shrink(PRESETS["small"]).recipes.llp.epochs
        1
    """
    few = 6 if settings.scenario == "task" else 18  # so few clips may leave a group of classes without any
    forges = {
        task: replace(getattr(settings.forge, task), clips=(few, few // 2, few // 2), views=2, takes=1)
        for task in ("ave", "llp", "avs", "avqa")
    }

    def short(recipes: Recipes) -> Recipes:
        own = {task: replace(recipe, epochs=1, batch_size=3, workers=0) for task, recipe in vars(recipes).items()}
        return Recipes(**own)

    return replace(
        settings,
        limit_clips=few,
        forge=Forges(**forges),
        head_recipes=short(settings.head_recipes),
        recipes=short(settings.recipes),
    )
