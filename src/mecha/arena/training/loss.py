"""What the network is told it did wrong.

Cells are given to objects by how well they already predict them (task-aligned assignment, Feng et al. 2021); boxes
learn by complete IoU (Zheng et al. 2020) and by the distribution of their distances (Li et al. 2020); classes by binary
cross-entropy against the quality of the box.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as fn
from torch import Tensor

from mecha.arena.training.network import BINS, grid

_BOX_WEIGHT, _CLASS_WEIGHT, _BINS_WEIGHT = 7.5, 0.5, 1.5
_CELLS_PER_OBJECT = 10
_SCORE_POWER, _IOU_POWER = 0.5, 6.0
_TINY = 1e-7


@dataclass(frozen=True)
class Truth:
    """The objects of a batch, padded to the same number G.

    Attributes:
        boxes: (B, G, 4) xyxy in pixels.
        kinds: (B, G) int64.
        real: (B, G) bool; false is padding.
    """

    boxes: Tensor
    kinds: Tensor
    real: Tensor


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, weighted; scalars."""

    box: Tensor
    kind: Tensor
    bins: Tensor

    def total(self) -> Tensor:
        """Their sum."""
        return self.box + self.kind + self.bins


def losses(levels: list[Tensor], truth: Truth, classes: int) -> Losses:
    """The losses of raw predictions, as ArenaNet gives them, against the truth."""
    flat = torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2).float()
    bins, logits = torch.split_with_sizes(flat, (4 * BINS, classes), 2)
    centres, strides = grid(flat.dtype)
    bins = bins.reshape(*bins.shape[:2], 4, BINS)
    sides = bins.softmax(3) @ torch.arange(BINS, dtype=flat.dtype)
    boxes = torch.cat((centres - sides[..., :2], centres + sides[..., 2:]), 2) * strides[:, None]
    with torch.no_grad():
        owner, quality = _assign(boxes, logits.sigmoid(), centres * strides[:, None], truth)
    taken = quality > 0
    goal = torch.zeros_like(logits)
    kinds = truth.kinds.gather(1, owner)
    goal.scatter_(2, kinds[..., None], quality[..., None])
    weight = quality[taken]
    norm = weight.sum().clamp(min=1)
    kind_loss = fn.binary_cross_entropy_with_logits(logits, goal, reduction="sum") / norm
    wanted = truth.boxes.gather(1, owner[..., None].expand(-1, -1, 4))[taken]
    iou = _complete_iou(boxes[taken], wanted)
    cell = centres.expand(len(flat), -1, -1)[taken]
    scaled = wanted / strides.expand(len(flat), -1)[taken][:, None]
    distances = torch.cat((cell - scaled[:, :2], scaled[:, 2:] - cell), 1)
    bins_loss = _distribution_loss(bins[taken], distances)
    return Losses(
        _BOX_WEIGHT * ((1 - iou) * weight).sum() / norm,
        _CLASS_WEIGHT * kind_loss,
        _BINS_WEIGHT * (bins_loss * weight).sum() / norm,
    )


def _assign(boxes: Tensor, scores: Tensor, centres: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
    """Which object (B, N) each cell belongs to, and the quality (B, N) it should score; 0 is background."""
    batch, objects = truth.kinds.shape
    low, high = truth.boxes[:, :, None, :2], truth.boxes[:, :, None, 2:]
    inside = torch.minimum(centres - low, high - centres).amin(3) > _TINY
    inside &= truth.real[..., None]
    iou = _iou(truth.boxes[:, :, None], boxes[:, None]).clamp(min=0) * inside
    score = scores.transpose(1, 2).gather(1, truth.kinds[..., None].expand(-1, -1, scores.shape[1]))
    metric = score.pow(_SCORE_POWER) * iou.pow(_IOU_POWER) * inside
    best = metric.topk(_CELLS_PER_OBJECT, 2).indices
    chosen = torch.zeros_like(metric).scatter_(2, best, 1.0) * inside
    # A cell that several objects want goes to the one it overlaps most.
    favourite = fn.one_hot(iou.argmax(1), objects).transpose(1, 2)
    chosen = torch.where(chosen.sum(1, keepdim=True) > 1, favourite * chosen.amax(1, keepdim=True), chosen)
    metric = metric * chosen
    peak = metric.amax(2, keepdim=True)
    best_iou = (iou * chosen).amax(2, keepdim=True)
    quality = (metric * best_iou / (peak + _TINY)).amax(1)
    return chosen.argmax(1).reshape(batch, -1), quality


def _iou(a: Tensor, b: Tensor) -> Tensor:
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    both = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return shared / (both - shared + _TINY)


def _complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU less the distance of the centres and the difference of the shapes, (M,)."""
    iou = _iou(a, b)
    around = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    apart = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]).square().sum(1) / 4
    (aw, ah), (bw, bh) = (a[:, 2:] - a[:, :2]).T, (b[:, 2:] - b[:, :2]).T
    shape = 4 / math.pi**2 * (torch.atan(bw / (bh + _TINY)) - torch.atan(aw / (ah + _TINY))).square()
    with torch.no_grad():
        alpha = shape / (shape - iou + 1 + _TINY)
    return iou - apart / (around.square().sum(1) + _TINY) - alpha * shape


def _distribution_loss(bins: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy (M,) of (M, 4, BINS) logits against the two bins on either side of each distance (M, 4)."""
    wanted = distances.clamp(0, BINS - 1 - 0.01)
    left = wanted.long()
    share = wanted - left
    log = bins.log_softmax(2)
    below, above = (log.gather(2, index[..., None]).squeeze(2) for index in (left, left + 1))
    return -(below * (1 - share) + above * share).mean(1)
