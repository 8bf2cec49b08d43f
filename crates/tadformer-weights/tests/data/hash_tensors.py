"""Writes into `reference_checkpoint.json` what PyTorch reads from the two checkpoints beside it.

    pip install torch==2.15.0 numpy==2.4.6
    python crates/tadformer-weights/tests/data/hash_tensors.py

Every tensor becomes `[shape, dtype, SHA-256]`, the hash being that of its elements in order, little endian: of the
model and of both moments of the optimiser in `reference_checkpoint.pth`, and of `swin_backbone_ms.pth`.
"""

import hashlib
import json
import sys
import types
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent


class CfgNode(dict):
    """Stands for `yacs.config.CfgNode`, which the checkpoint's configuration is pickled as."""

    def __setstate__(self, state):
        self.__dict__.update(state)


def hashed(tensor):
    array = tensor.detach().contiguous().numpy()
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return [list(array.shape), str(array.dtype), hashlib.sha256(little.tobytes()).hexdigest()]


def load(name):
    # Both files are this project's own.
    return torch.load(HERE / name, map_location="cpu", weights_only=False)


def main():
    sys.modules["yacs"] = types.ModuleType("yacs")
    sys.modules["yacs.config"] = types.ModuleType("yacs.config")
    sys.modules["yacs.config"].CfgNode = CfgNode
    path = HERE / "reference_checkpoint.json"
    expected = json.loads(path.read_text())
    checkpoint = load("reference_checkpoint.pth")
    expected["model_tensors"] = {name: hashed(tensor) for name, tensor in sorted(checkpoint["model"].items())}
    for index, state in checkpoint["optimizer"]["state"].items():
        moments = {key: hashed(state[key]) for key in ("exp_avg", "exp_avg_sq")}
        expected["optimizer"]["state"][str(index)] = moments | {"step": float(state["step"])}
    microsoft = load("swin_backbone_ms.pth")["model"]
    expected["ms_tensors"] = [[name, *hashed(tensor)] for name, tensor in microsoft.items()]
    expected.pop("ms_keys", None)
    path.write_text(json.dumps(expected, separators=(",", ":")) + "\n")


main()
