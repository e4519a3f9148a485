"""The two sets of defaults: a small run that anyone can start, and the published recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from avtasks import ave, avqa, avs, avvp
from avtasks.model import AdapterSettings
from avtasks.training import Recipe

from .settings import Folders, Forges, Heads, PromptSettings, Recipes, Settings

# few passes from converged heads on: further ones learn so few clips by heart
_SMALL_RECIPE = Recipe(epochs=1, batch_size=8, lr=5e-3, weight_decay=0.01)
_SMALL_HEAD = Recipe(epochs=10, batch_size=8, lr=3e-3, weight_decay=0.01)

_SMALL = Settings(
    forge=Forges(
        ave=ave.ForgeSettings(clips=(320, 60, 80), classes=6, inverted=True, telephone=True),
        # pictures so bad that the sound has to tell what is seen
        llp=avvp.ForgeSettings(clips=(400, 60, 80), classes=6),
        avs=avs.ForgeSettings(clips=(280, 40, 60), classes=5, inverted=True, telephone=True),
        avqa=avqa.ForgeSettings(clips=(320, 60, 80)),
    ),
    heads=Heads(ave=ave.HeadSettings(cmbs=False)),
    prompts=PromptSettings(
        shallow=(2,),
        mid=(3,),
        deep=(4,),
        audio_deep=(4,),
        classic=(3, 4),
        query_block=3,
        latents=4,
        reduction=4,
        memory=32,
        mid_length=4,
        mid_depth=1,
        mid_heads=2,
        mid_dim_head=16,
        deep_length=5,
        components=16,
    ),
    adapters=AdapterSettings(converged_head=True, head_lr=1e-3, gate_lr=1e-2, stages=(2,)),
    head_recipes=Recipes(
        ave=replace(_SMALL_HEAD, epochs=15, lr=1e-3),
        # weak labels take a head long to learn from
        llp=replace(_SMALL_HEAD, epochs=30, batch_size=16, lr=1e-3, weight_decay=0.05),
        avs=replace(_SMALL_HEAD, epochs=9, batch_size=4, lr=6e-3),
        avqa=_SMALL_HEAD,
    ),
    recipes=Recipes(
        ave=_SMALL_RECIPE,
        llp=replace(_SMALL_RECIPE, epochs=3),
        avs=replace(_SMALL_RECIPE, epochs=2),
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
