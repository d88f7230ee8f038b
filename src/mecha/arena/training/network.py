"""The network: a small anchor-free detector with a YOLOv8-style head, its widths multiples of 16 for INT8.

Three levels of stride 8, 16 and 32; at each cell a box branch gives a distribution over 16 distances for each of the
four sides, and a class branch gives a logit for each class.
"""

# PyTorch is an extra: where it is absent its classes are Any to mypy.
# mypy: disallow-subclassing-any=False

import math

import torch
from torch import Tensor, nn

INPUT_SIZE = 320
STRIDES = (8, 16, 32)
BINS = 16

_STEM, _LOW, _WIDE, _BOX, _CLASS = 16, 32, 64, 32, 16


class ConvUnit(nn.Module):
    """Convolution, batch normalisation, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y

    def fuse(self) -> None:
        """Fold the batch normalisation into the convolution."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None or norm.running_mean is None:
            return
        scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        self.conv.weight = nn.Parameter(self.conv.weight.detach() * scale[:, None, None, None])
        self.conv.bias = nn.Parameter(norm.bias.detach() - norm.running_mean * scale)
        self.norm = nn.Identity()


class SplitBlock(nn.Module):
    """Half of the channels pass by, half go through two convolutions with a shortcut; all three are merged."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.halves = (half, half)
        self.enter = ConvUnit(inputs, outputs, 1)
        self.first = ConvUnit(half, half)
        self.second = ConvUnit(half, half)
        self.leave = ConvUnit(outputs + half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        by, through = torch.split_with_sizes(self.enter(x), self.halves, 1)
        deep = through + self.second(self.first(through))
        y: Tensor = self.leave(torch.cat((by, through, deep), 1))
        return y


class Pyramid(nn.Module):
    """Three max-pools in a row, merged: each cell sees the whole frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = ConvUnit(width, width // 4, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = ConvUnit(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        near = self.enter(x)
        wide = self.pool(near)
        wider = self.pool(wide)
        y: Tensor = self.leave(torch.cat((near, wide, wider, self.pool(wider)), 1))
        return y


class ArenaNet(nn.Module):
    """Frames in, raw predictions of all cells out."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(
            ConvUnit(3, _STEM, 3, 2), ConvUnit(_STEM, _LOW, 3, 2), SplitBlock(_LOW, _LOW), ConvUnit(_LOW, _WIDE, 3, 2)
        )
        self.level8 = SplitBlock(_WIDE, _WIDE)
        self.level16 = nn.Sequential(ConvUnit(_WIDE, _WIDE, 3, 2), SplitBlock(_WIDE, _WIDE))
        self.level32 = nn.Sequential(ConvUnit(_WIDE, _WIDE, 3, 2), SplitBlock(_WIDE, _WIDE), Pyramid(_WIDE))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.merge16 = SplitBlock(2 * _WIDE, _WIDE)
        self.merge8 = SplitBlock(2 * _WIDE, _WIDE)
        self.box = nn.ModuleList(_branch(_BOX, 4 * BINS) for _ in STRIDES)
        self.kind = nn.ModuleList(_branch(_CLASS, classes) for _ in STRIDES)
        self._start_where_nothing_is_seen()

    def _start_where_nothing_is_seen(self) -> None:
        # A prior of about five objects a frame keeps the first steps from being all about background.
        for stride, box, kind in zip(STRIDES, self.box, self.kind, strict=True):
            nn.init.constant_(box.get_parameter("1.bias"), 1.0)
            nn.init.constant_(kind.get_parameter("1.bias"), math.log(5 / self.classes / (INPUT_SIZE / stride) ** 2))

    def forward(self, frames: Tensor) -> list[Tensor]:
        """(B, 3, S, S) RGB in 0-1 to one (B, 4 * BINS + classes, S / stride, S / stride) for each stride."""
        at8 = self.level8(self.stem(frames))
        at16 = self.level16(at8)
        at32 = self.level32(at16)
        at16 = self.merge16(torch.cat((self.up(at32), at16), 1))
        at8 = self.merge8(torch.cat((self.up(at16), at8), 1))
        levels = zip((at8, at16, at32), self.box, self.kind, strict=True)
        return [torch.cat((box(level), kind(level)), 1) for level, box, kind in levels]

    def fuse(self) -> None:
        """Fold every batch normalisation into its convolution, for export."""
        for module in self.modules():
            if isinstance(module, ConvUnit):
                module.fuse()


class Decoded(nn.Module):
    """The network with its decode tail, in the form that YOLOv8 exports have."""

    anchors: Tensor
    strides: Tensor

    def __init__(self, net: ArenaNet) -> None:
        super().__init__()
        self.net = net
        self.bins = nn.Conv2d(BINS, 1, 1, bias=False).requires_grad_(requires_grad=False)
        self.bins.weight.data[:] = torch.arange(BINS, dtype=torch.float32).view(1, BINS, 1, 1)
        anchors, strides = grid(torch.float32)
        self.register_buffer("anchors", anchors.T[None].contiguous())
        self.register_buffer("strides", strides[None])

    def forward(self, images: Tensor) -> Tensor:
        """(1, 3, S, S) RGB in 0-1 to (1, 4 + classes, N): centre, width and height in pixels, then scores in 0-1."""
        flat = torch.cat([level.reshape(1, 4 * BINS + self.net.classes, -1) for level in self.net(images)], 2)
        box, kind = torch.split_with_sizes(flat, (4 * BINS, self.net.classes), 1)
        sides = self.bins(box.reshape(1, 4, BINS, -1).transpose(2, 1).softmax(1)).reshape(1, 4, -1)
        before, after = torch.split_with_sizes(sides, (2, 2), 1)
        low, high = self.anchors - before, self.anchors + after
        pixels = torch.cat(((low + high) / 2, high - low), 1) * self.strides
        return torch.cat((pixels, kind.sigmoid()), 1)


def grid(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The cells' centres (N, 2) in units of their own stride, and the strides (N,), smallest stride first."""
    centres, strides = [], []
    for stride in STRIDES:
        cells = INPUT_SIZE // stride
        y, x = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
        centres.append(torch.stack((x, y), -1).reshape(-1, 2).to(dtype) + 0.5)
        strides.append(torch.full((cells * cells,), float(stride), dtype=dtype))
    return torch.cat(centres), torch.cat(strides)


def _branch(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(ConvUnit(_WIDE, width), nn.Conv2d(width, outputs, 1))
