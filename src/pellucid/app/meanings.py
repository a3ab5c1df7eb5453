"""The semantic chapters of the demonstration: what a model's answer rests on in features that people have words for,
beside maps of pixels."""

from __future__ import annotations

from pellucid import data, methods, players, removal, spaces
from pellucid.api import explain
from pellucid.app.chapters import Settings, shown
from pellucid.averaging import explain_global
from pellucid.core.budget import Progress, Run
from pellucid.core.comparison import Comparison
from pellucid.core.target import Target
from pellucid.data import Examples
from pellucid.experiments.semantic.sprites import top_half
from pellucid.models import wrap
from pellucid.traversing import traverse

LOOKED_AT = 3
"""Inputs beside the mean over all of them."""
BANDS = 10
ORDERS = 12
"""Orders of the bands for each photo that is looked at, in reversed pairs."""
SIZES = tuple(4 * scale**2 for scale in range(5, 11))
"""White pixels of a sprite at each scale: the classes of the rule."""
SPRITES, OTHERS = 400, 600
"""Sprites explained together, and those that stand in for what is absent."""


def frequencies(settings: Settings, progress: Progress | None) -> Comparison | None:
    """Coarse shape or fine texture: EfficientNet-Lite0 on photos in bands of frequencies, beside Grad-CAM."""
    if not settings.photos:
        return None
    every, run = data.photos(), Run(progress=progress)
    model = data.efficientnet().fast(every.x)
    close, target, space = every[: min(LOOKED_AT, settings.photos)], Target(None, "prob"), spaces.fourier(BANDS)
    others = removal.marginal(every[len(close) :].x, draws=1)
    single = methods.permutation_shapley(ORDERS * (BANDS - 1) + 2, removal=others)
    each = every[: settings.photos]
    few = methods.permutation_shapley(4 * BANDS, removal=removal.marginal(every.x, draws=1))
    found = {
        "grad_cam": explain(model, close.x, methods.grad_cam(), target, run=run),
        "frequencies": explain(model, close.x, single, target, space, seed=settings.seed, run=run),
        "frequencies, all photos": explain_global(model, each.x, each.y, few, space, seed=settings.seed, run=run),
    }
    why = (
        "No verdict: pixels say where in the picture a model looks, frequencies say whether it reads coarse shape or "
        f"fine texture. {len(each)} photos and a small budget; the whiskers say how little that settles."
    )
    less = (
        f"{BANDS} bands and {ORDERS * (BANDS - 1) + 2} coalitions a photo, {4 * BANDS} where all are explained together"
    )
    about = {"title": "Coarse shape or fine texture", "unjudged": why, "command": settings.command, "reduced": less}
    return shown(model, close, found, about)


def causes(settings: Settings, progress: Progress | None) -> Comparison | None:
    """Sprites whose five causes are known, and a rule that can read only some of them."""
    if not settings.digits:
        return None
    run = Run(progress=progress)
    every = data.sprites(SPRITES + OTHERS, settings.seed)
    x, background = every.x[:SPRITES], every.x[SPRITES:]
    rule = wrap(top_half, labels=[f"{size} pixels" for size in SIZES], scale="prob", bounds=(0.0, 1.0))
    y = top_half(x).argmax(1)
    close = Examples(x[:LOOKED_AT], y[:LOOKED_AT], rule.labels or (), every.names[:LOOKED_AT], every.about)
    space = spaces.decoder(data.sprite_latents, data.render_sprites, data.SPRITE_LATENTS)
    absent, target = removal.marginal(background, draws=1), Target(None, "prob")
    latents, cells = methods.permutation_shapley(800, removal=absent), methods.permutation_shapley(2000, removal=absent)
    local = explain(rule, close.x, latents, target, space, seed=settings.seed, run=run)
    first = traverse(rule, close.x[:1], space, background, target, run=run)
    few = methods.permutation_shapley(4 * len(data.SPRITE_LATENTS), removal=absent)
    found = {
        "pixels in 8 × 8 cells": explain(
            rule, close.x, cells, target, players=players.grid(8), seed=settings.seed, run=run
        ),
        "causes": first.beside(local),
        "causes, all sprites": explain_global(rule, x, y, few, space, seed=settings.seed, run=run),
    }
    why = (
        "No verdict, but a known truth: the rule counts the white pixels of the top half, so it cannot see pos_x, and "
        "reads shape and orientation only where the edge of the half cuts a sprite."
    )
    about = {
        "title": "A rule about sprites, in the causes of its pictures",
        "model": "a rule: how many pixels of the top half are white, to the nearest of six sizes",
        "unjudged": why,
        "command": settings.command,
    }
    return shown(rule, close, found, about)
