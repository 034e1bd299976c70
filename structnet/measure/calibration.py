"""What a network knows, apart from how sure it is: likelihoods at a fitted temperature.

Near the end most of the cross-entropy of a good network is the price of being too sure or not sure enough, which one
number repairs: the temperature that its logits are divided by (Guo et al. 2017). On labels that cannot be learned a
fork would even gain by being wrong less confidently. So networks are compared at the temperature that suits each.
"""

from __future__ import annotations

import torch

from structnet.measure.information import convex_minimum, log2_of_labels

FOLDS = 4
MOST = 512  # images that a temperature is fitted to: one number needs no more
LARGEST = 256.0
HALVINGS = 24


def tempered_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log2 p(label | image) at temperatures fitted to other images; logits (classes, n), labels (n,): float64 (n,).

    Images are dealt to four quarters by their position. Each quarter is read at the temperature that was fitted to
    the one two further on: so an image never has a say in its own temperature, and what is read on the images at even
    positions owes nothing to those at odd ones, which may be the ones that judge. The result does not change with the
    scale of the logits. Raises ValueError on fewer than four images, of which a quarter would be empty.
    """
    if len(labels) < FOLDS:
        raise ValueError(f"there are {len(labels)} images, but a temperature needs at least {FOLDS}")
    precise = logits.detach().to(torch.float64)
    found = torch.empty(len(labels), dtype=torch.float64, device=logits.device)
    for fold in range(FOLDS):
        other = (fold + FOLDS // 2) % FOLDS
        scale = fitted_scale(precise[:, other::FOLDS][:, :MOST], labels[other::FOLDS][:MOST])
        found[fold::FOLDS] = log2_of_labels(precise[:, fold::FOLDS] * scale, labels[fold::FOLDS])
    return found


def fitted_scale(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """What to multiply logits (classes, n) by for the least cross-entropy on these labels: 1 ÷ temperature, at least 0.

    The label is the target but for a share of one in n + 2 (Platt 1999), which all classes have in equal parts: where
    every answer is right the best temperature would be 0, and one wrong answer elsewhere would cost without limit.
    """
    centred = logits - logits.mean(dim=0)
    unit = float(centred.abs().mean())
    if unit == 0:
        return 1.0
    z = centred / unit
    doubt = 1 / (len(labels) + 2)
    # The mean over the classes is 0, so the share of them all adds nothing to what the targets expect.
    expected = (1 - doubt) * float(z.gather(0, labels[None, :]).mean())

    def slope(scale: float) -> float:
        return float(torch.softmax(z * scale, dim=0).mul_(z).sum()) / len(labels) - expected

    # The cross-entropy is convex in the scale.
    return convex_minimum(slope, LARGEST, HALVINGS) / unit
