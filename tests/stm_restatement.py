"""STM as its authors' published code computes it, restated plainly, under the names of their checkpoints.

Written from the description in the paper (Oh et al., ICCV 2019) and the checkpoint's names; independent of mgseg.
"""

import math

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F


class Encoder(nn.Module):
    def __init__(self, with_masks: bool) -> None:
        super().__init__()
        if with_masks:
            self.conv1_m = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
            self.conv1_o = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        net = torchvision.models.resnet50(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.res2, self.res3, self.res4 = net.layer1, net.layer2, net.layer3
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, frame: Tensor, mask: Tensor | None = None, others: Tensor | None = None):
        x = self.conv1((frame - self.mean) / self.std)
        if mask is not None:
            x = x + self.conv1_m(mask) + self.conv1_o(others)
        r2 = self.res2(self.maxpool(self.relu(self.bn1(x))))
        r3 = self.res3(r2)
        return self.res4(r3), r3, r2


class KeyValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Key = nn.Conv2d(1024, 128, 3, padding=1)
        self.Value = nn.Conv2d(1024, 512, 3, padding=1)


class ResBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(256, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 256, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Refine(nn.Module):
    def __init__(self, planes: int) -> None:
        super().__init__()
        self.convFS = nn.Conv2d(planes, 256, 3, padding=1)
        self.ResFS, self.ResMM = ResBlock(), ResBlock()

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        up = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return self.ResMM(self.ResFS(self.convFS(skip)) + up)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convFM, self.ResMM = nn.Conv2d(1024, 256, 3, padding=1), ResBlock()
        self.RF3, self.RF2 = Refine(512), Refine(256)
        self.pred2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, r4: Tensor, r3: Tensor, r2: Tensor) -> Tensor:
        m2 = self.RF2(r2, self.RF3(r3, self.ResMM(self.convFM(r4))))
        return F.interpolate(self.pred2(F.relu(m2)), scale_factor=4, mode="bilinear", align_corners=False)


class STM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Encoder_M, self.Encoder_Q = Encoder(True), Encoder(False)
        self.KV_M_r4, self.KV_Q_r4 = KeyValue(), KeyValue()
        self.Decoder = Decoder()

    @staticmethod
    def pad(x: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
        h, w = x.shape[-2:]
        new_h, new_w = math.ceil(h / 16) * 16, math.ceil(w / 16) * 16
        top, left = (new_h - h) // 2, (new_w - w) // 2
        pads = (left, new_w - w - left, top, new_h - h - top)
        return F.pad(x, pads), pads

    def memorise(self, frame: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """frame (1, 3, H, W) in [0, 1], masks (N, H, W) -> keys (N, 128, h, w), values (N, 512, h, w)."""
        frame, masks = self.pad(frame)[0], self.pad(masks)[0]
        total = masks.sum(0)
        others = torch.stack([(total - m).clamp(0, 1) for m in masks])
        r4 = self.Encoder_M(frame.expand(len(masks), -1, -1, -1), masks[:, None], others[:, None])[0]
        return self.KV_M_r4.Key(r4), self.KV_M_r4.Value(r4)

    def segment(self, frame: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """keys (N, 128, T, h, w) -> probabilities (N + 1, H, W), background first."""
        frame, pads = self.pad(frame)
        r4, r3, r2 = self.Encoder_Q(frame)
        key, value = self.KV_Q_r4.Key(r4), self.KV_Q_r4.Value(r4)
        probs = []
        for k, v in zip(keys, values, strict=True):
            affinity = torch.softmax(k.flatten(1).T @ key[0].flatten(1) / math.sqrt(128), dim=0)
            read = (v.flatten(1) @ affinity).view_as(value)
            probs.append(F.softmax(self.Decoder(torch.cat([read, value], 1), r3, r2), dim=1)[0, 1])
        prob = torch.stack(probs)
        prob = torch.cat([torch.prod(1 - prob, dim=0, keepdim=True), prob]).clamp(1e-7, 1 - 1e-7)
        prob = torch.softmax(torch.log(prob / (1 - prob)), dim=0)
        left, right, top, bottom = pads
        return prob[:, top : prob.shape[1] - bottom, left : prob.shape[2] - right]

    def run(self, frames: list[Tensor], masks: Tensor, memory_every: int = 5) -> list[Tensor]:
        """Segment a clip: hard masks (N, H, W) of the first frame -> probabilities of each further frame."""
        prob, results = torch.cat([1 - masks.sum(0, keepdim=True), masks]), []
        keys = values = None
        for t in range(1, len(frames)):
            k, v = (x.unsqueeze(2) for x in self.memorise(frames[t - 1], prob[1:]))
            if keys is not None:
                k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
            prob = self.segment(frames[t], k, v)
            if (t - 1) % memory_every == 0:
                keys, values = k, v
            results.append(prob)
        return results
