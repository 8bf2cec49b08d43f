"""Writes negated.pth with PyTorch: tensors that it keeps as the storage of their negative and a flag.

    pip install torch==2.14.0
    python3 make_negated.py

`z.conj().imag` is such a view; `_neg_view` makes one of any tensor. The numbers are those that `torch.load` gives.
"""

from pathlib import Path

import torch

z = torch.tensor([[1 + 2j, 3 - 4j], [5j, -1 - 0.5j]])
state = {"plain": torch.tensor([1.0, -2.0]), "imag": z.conj().imag}
for name, dtype in {"f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}.items():
    state[name] = torch.tensor([1.5, -0.0, -2.0], dtype=dtype)._neg_view()
state["parameter"] = torch.nn.Parameter(state["imag"][0])
assert all(state[name].is_neg() for name in state if name != "plain")
torch.save(state, Path(__file__).parent / "negated.pth")
again = torch.load(Path(__file__).parent / "negated.pth")
print({name: value.tolist() for name, value in again.items()})
