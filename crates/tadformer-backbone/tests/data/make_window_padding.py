"""Writes window_padding.safetensors: torchvision's Swin on grids that no window fits, run in 64 bits.

    pip install torch==2.14.0 torchvision==0.29.0 numpy safetensors
    python make_window_padding.py

Weights and inputs are functions of their names (`golden_parameter` and `named_tensor` of `tadformer_ops::testing`), so the file
holds outputs and gradients alone. Windows of 5 on grids of 16 x 24, 8 x 12, 4 x 6 and 2 x 3: padding at both edges, an axis of
one window beside one of two, and one window that is mostly padding.
"""

import json
import math
import sys

import numpy as np
import torch
import torchvision
from safetensors.numpy import save_file
from torchvision.models.swin_transformer import SwinTransformer

MASK = (1 << 64) - 1


def named(name, shape, offset, amplitude):
    """Uniform in `offset ± amplitude`: splitmix64 of the name's FNV-1a hash and the element's number."""
    key = 14695981039346656037
    for byte in name.encode():
        key = ((key ^ byte) * 1099511628211) & MASK
    count = math.prod(shape)
    z = np.full(count, key, np.uint64) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)).astype(np.float64) / (1 << 24) * 2 - 1
    return torch.from_numpy((offset + amplitude * unit).astype(np.float32).reshape(shape)).double()


def parameter(name, shape):
    last = name.rsplit(".", 1)[-1]
    if last == "relative_position_bias_table":
        return named(name, shape, 0.0, 0.2)
    if len(shape) == 1:
        return named(name, shape, *((1.0, 0.1) if last == "weight" else (0.0, 0.05)))
    return named(name, shape, 0.0, math.sqrt(3.0 / math.prod(shape[1:])))


def main(path):
    torch.set_default_dtype(torch.float64)
    heads, window = [1, 2, 4, 8], 5
    net = SwinTransformer([4, 4], 8, [2, 2, 2, 2], heads, [window, window], stochastic_depth_prob=0.0, num_classes=1)
    state = {name: parameter(name, tuple(p.shape)) for name, p in net.named_parameters()}
    net.load_state_dict(state, strict=False)
    image = named("input:window_padding/image", (1, 3, 64, 96), 0.0, math.sqrt(3.0))

    out, loss, xs = {}, 0.0, image
    for at, layer in enumerate(net.features):
        xs = layer(xs)
        # What ends a stage of ours: patch merging, and the blocks of the last one.
        if at in (2, 4, 6, 7):
            stage = min(at // 2 - 1, 2) if at < 7 else 3
            out[f"out/stage{stage}"] = xs.detach()
            loss = loss + (xs * named(f"cot:window_padding/stage{stage}", tuple(xs.shape), 0.0, 1.0)).sum()
    loss.backward()
    wanted = ("attn.qkv.bias", "relative_position_bias_table", "features.0.0.bias")
    for name, p in net.named_parameters():
        if name.endswith(wanted):
            out[f"grad/{name}"] = p.grad
    meta = {
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "names": [[name, list(p.shape)] for name, p in net.named_parameters() if not name.startswith(("norm.", "head."))],
    }
    arrays = {name: value.float().numpy() for name, value in out.items()}
    save_file(arrays, path, {"meta": json.dumps(meta)})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "window_padding.safetensors")
