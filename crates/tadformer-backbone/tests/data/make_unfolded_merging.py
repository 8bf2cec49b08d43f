"""Writes unfolded_merging.safetensors: patch merging by `nn.Unfold`, as mmsegmentation and mmdetection do it.

    pip install torch==2.14.0 numpy safetensors
    python make_unfolded_merging.py
"""

import json
import math

import torch
from make_window_padding import named, parameter
from safetensors.numpy import save_file

CHANNELS, HEIGHT, WIDTH = 3, 4, 6


def main():
    torch.set_default_dtype(torch.float64)
    shapes = {"norm.weight": (4 * CHANNELS,), "norm.bias": (4 * CHANNELS,), "reduction.weight": (2 * CHANNELS, 4 * CHANNELS)}
    weights = {name: parameter(f"stages.0.downsample.{name}", shape) for name, shape in shapes.items()}
    tokens = named("input:unfolded_merging/x", (1, HEIGHT, WIDTH, CHANNELS), 0.0, math.sqrt(3.0))
    xs = torch.nn.Unfold(2, stride=2)(tokens.permute(0, 3, 1, 2)).transpose(1, 2)
    xs = torch.nn.functional.layer_norm(xs, xs.shape[-1:], weights["norm.weight"], weights["norm.bias"])
    xs = xs @ weights["reduction.weight"].T
    out = xs.reshape(1, HEIGHT // 2, WIDTH // 2, 2 * CHANNELS)
    save_file({"out": out.float().numpy()}, "unfolded_merging.safetensors", {"meta": json.dumps({"torch": torch.__version__.split("+")[0]})})


if __name__ == "__main__":
    main()
