"""Holds the PyTorch model against golden numbers: python check_golden.py FOLDER

FOLDER has `micro_model.safetensors` and `swin_t_224.safetensors` (outputs, stage features, losses and gradients of a
float64 run, with weights made from their names as FOLDER/README.md says). Exits with 1 where a difference is larger
than the tolerance; a difference is relative to the largest magnitude of its tensor.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from tadformer_torch import Config, TADFormer
from training import total_loss

# Rounding of f32 alone is about a tenth of each.
TOLERANCE = {"out": 3e-5, "stage": 3e-5, "loss": 2e-6, "grad": 3e-4, "norm": 5e-3, "buf": 3e-5}
ZERO_GRADIENT = 1e-5


def generate(name, shape, offset, amplitude):
    """Uniform numbers that are a function of the name: splitmix64 on FNV-1a."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    z = np.uint64(seed) + np.arange(math.prod(shape), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    uniform = (z >> np.uint64(40)).astype(np.float64) / 2**24 * 2 - 1
    return torch.from_numpy((offset + amplitude * uniform).astype(np.float32).reshape(shape)), z.reshape(shape)


def weight(name, shape):
    last, vector = name.rsplit(".", 1)[-1], len(shape) == 1
    rules = {
        "prompt_gate": (0.3, 0.0),
        "running_mean": (0.0, 0.1),
        "running_var": (1.0, 0.2),
        "relative_position_bias_table": (0.0, 0.2),
        "task_prompts": (1.0, 0.5),
    }
    if last in rules:
        rule = rules[last]
    elif name.endswith("normals.last_layer.3.bias"):
        rule = (3.0, 0.05)
    elif vector and last in ("std", "mean", "weight"):
        rule = {"std": (0.5, 0.25), "mean": (0.0, 0.25), "weight": (1.0, 0.1)}[last]
    elif len(shape) >= 2:
        amplitude = math.sqrt(3 / math.prod(shape[1:]))
        rule = (0.0, amplitude * (0.25 if last == "lora_shared_B" else 1.0))
    else:
        rule = (0.0, 0.05)
    return generate(name, shape, *rule)[0]


def build(meta):
    sizes = meta["config"]
    config = Config(
        image_size=sizes["img"], embed_dim=sizes["embed"], depths=tuple(sizes["depths"]),
        num_heads=tuple(sizes["heads"]), window_size=sizes["window"], rank=sizes["r"], scale=sizes["scale"],
        lora_dropout=0.0, drop_path_rate=0.0, prompts_per_task=sizes["pertask_len"],
        channels=tuple(sizes["channels"]), tasks=tuple(sizes["tasks"]),
    )
    model = TADFormer(config)
    state = {name: weight(name, shape) for name, shape, kind in meta["params"] if kind != "constructed"}
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        sys.exit(f"the model and the file differ in names: missing {missing[:3]}, unexpected {unexpected[:3]}")
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    if "trainable" in meta and trainable != set(meta["trainable"]):
        sys.exit(f"what trains differs: {sorted(trainable ^ set(meta['trainable']))[:5]}")
    return model


class Worst:
    """The largest difference of each kind."""

    def __init__(self, file):
        self.file, self.found, self.count = file, {}, {}

    def add(self, kind, name, ours, expected, floor=1e-3):
        ours, expected = torch.as_tensor(ours).detach().double(), torch.as_tensor(expected).double()
        scale = max(expected.abs().max().item(), floor)
        difference = (ours.reshape(expected.shape) - expected).abs().max().item() / scale
        difference = math.inf if math.isnan(difference) else difference
        self.count[kind] = self.count.get(kind, 0) + 1
        if difference >= self.found.get(kind, (-1.0, ""))[0]:
            self.found[kind] = (difference, name)

    def report(self):
        good = True
        for kind, (difference, name) in self.found.items():
            limit = TOLERANCE[kind]
            good &= difference <= limit
            verdict = "ok" if difference <= limit else "TOO FAR"
            print(f"{self.file:12} {kind:6} {self.count[kind]:4} tensors  worst {difference:.1e} (allowed {limit:.0e}) {verdict}  {name}")
        return good


def labels_224(tasks, b, side):
    """The labels that the file does not store."""
    labels = {}
    for task in tasks:
        name, shape = f"label:swin_t_224/train/{task}", (b, 1, side, side)
        if task == "normals":
            values = generate(name, (b, 3, side, side), 0.0, 1.7320508)[0].double()
            values = (values / values.norm(dim=1, keepdim=True)).float()
            z = generate(f"{name}:ignore", shape, 0, 1)[1]
        else:
            z = generate(name, shape, 0, 1)[1]
            classes = {"semseg": 21, "human_parts": 7, "sal": 2}[task]
            values = torch.from_numpy((z % np.uint64(classes)).astype(np.float32))
        ignored = torch.from_numpy((z >> np.uint64(33)) % np.uint64(8) == 0)
        labels[task] = values if task == "sal" else torch.where(ignored, torch.tensor(255.0), values)
    return labels


def check_losses(worst, mode, logits, labels, get):
    total, losses = total_loss(logits, labels)
    for task, loss in losses.items():
        worst.add("loss", f"{mode}/{task}", loss, get(f"{mode}/loss/{task}"), 0.0)
    worst.add("loss", f"{mode}/total", total, get(f"{mode}/loss/total"), 0.0)
    return total


def check_micro(file, meta):
    get, model, worst = file.get_tensor, build(meta), Worst("micro_model")
    image, tasks = get("in/image"), model.config.tasks
    labels = {task: get(f"label/{task}") for task in tasks}
    model.eval()
    for i, (shared, streams) in enumerate(model.backbone(image)):
        worst.add("stage", f"stage{i}/shared", shared, get(f"eval/stage{i}/shared"))
        for task, stream in streams.items():
            worst.add("stage", f"stage{i}/{task}", stream, get(f"eval/stage{i}/{task}"))
    logits = model(image)
    for task in tasks:
        worst.add("out", f"eval/{task}", logits[task], get(f"eval/out/{task}"))
    check_losses(worst, "eval", logits, labels, get)
    model.train()
    logits = model(image)
    for task in tasks:
        worst.add("out", f"train/{task}", logits[task], get(f"train/out/{task}"))
    check_losses(worst, "train", logits, labels, get).backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name in meta["no_grad"]:
            assert parameter.grad is None, f"`{name}` has a gradient"
        elif name in meta["zero_grad"]:
            assert parameter.grad.abs().max() <= ZERO_GRADIENT, f"the gradient of `{name}` is not zero"
        else:
            worst.add("grad", name, parameter.grad, get(f"grad/{name}"))
    for name, buffer in model.named_buffers():
        if f"buf_after/{name}" in file.keys():
            worst.add("buf", name, buffer, get(f"buf_after/{name}"))
    return worst.report()


def check_swin_t(file, meta):
    get, model, worst = file.get_tensor, build(meta), Worst("swin_t_224")
    side, tasks = model.config.image_size, model.config.tasks
    image = generate("input:swin_t_224/image", (1, 3, side, side), 0.0, 1.7320508)[0]

    def sampled(kind, key, tensor):
        worst.add(kind, key, tensor.flatten()[get(f"{key}/idx")], get(f"{key}/val"))

    model.eval()
    with torch.no_grad():
        for i, (shared, streams) in enumerate(model.backbone(image)):
            sampled("stage", f"eval/stage{i}/shared", shared)
            for task, stream in streams.items():
                sampled("stage", f"eval/stage{i}/{task}", stream)
        for task, output in model(image).items():
            sampled("out", f"eval/out/{task}", output)
    model.train()
    image = generate("input:swin_t_224/train_image", (2, 3, side, side), 0.0, 1.7320508)[0]
    check_losses(worst, "train", model(image), labels_224(tasks, 2, side), get).backward()
    parameters = dict(model.named_parameters())
    for name, norm in meta["grad_norm"].items():
        if norm is None:
            assert parameters[name].grad is None, f"`{name}` has a gradient"
        elif not name.endswith("last_layer.0.bias"):  # zero before a BatchNorm, up to rounding
            worst.add("norm", name, parameters[name].grad.norm(), norm, 1e-6)
    return worst.report()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    good = True
    for name, check in [("micro_model", check_micro), ("swin_t_224", check_swin_t)]:
        with safe_open(Path(sys.argv[1]) / f"{name}.safetensors", "pt") as file:
            good &= check(file, json.loads(file.metadata()["meta"]))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
