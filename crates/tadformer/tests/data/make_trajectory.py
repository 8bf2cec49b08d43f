"""Makes `trajectory.safetensors`: twenty updates of a small network in float64, for `golden_training.rs`.

    pip install -r benches/python/requirements.txt
    python crates/tadformer/tests/data/make_trajectory.py

The network is that of `benches/python/tadformer_torch.py`, which `check_golden.py` holds against the golden numbers of
the published code; optimiser and clipping are PyTorch's own. `--check FILE` follows a trajectory of the published code
instead and prints how far this program is from it.

Numbers that another machine's rounding can change test nothing, so nothing here stands on an edge. A gradient jumps
where the difference of an L1 loss or the input of a ReLU crosses zero. Seven followers take the same steps in float32:
one from the same weights, six from weights moved by one unit in the last place. At every step:

- images are drawn until every input of a ReLU is `RELU_MARGIN` times further from zero than any follower is from the
  leader anywhere in the same channel;
- a pixel with a direction closer to its label than `L1_MARGIN` in any component has no label, and every follower is
  at most a tenth of that away;
- the gradient's norm is not within a thousandth of the one at which it is clipped.

AdamW's `eps` is far above the rounding of a gradient. With the usual 1e-8, a gradient that is zero by algebra (of a bias
before a BatchNorm) is divided by its own rounding, and the weight walks at full speed in a direction that is noise.
"""

import argparse
import copy
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3] / "benches" / "python"))

from check_golden import build, generate  # noqa: E402
from training import IGNORE, WEIGHTS, task_loss  # noqa: E402

TASKS = ("semseg", "normals", "sal", "human_parts")
CLASSES = {"semseg": 21, "sal": 2, "human_parts": 7}
CONFIG = {
    "B": 2, "img": 64, "patch": 4, "embed": 16, "depths": [2, 2, 2, 2], "heads": [1, 2, 4, 8], "window": 4,
    "r": 4, "scale": 2.0, "pertask_len": 1, "channels": [6, 8, 10, 12], "tasks": list(TASKS),
}
TRAIN = {
    "steps": 20, "epochs": 4, "iters_per_epoch": 5, "warmup_epochs": 1, "base_lr": 2e-4, "warmup_lr": 2e-7,
    "min_lr": 2e-6, "betas": [0.9, 0.999], "eps": 1e-5, "weight_decay": 0.5, "clip": 5.0,
}
RELU_MARGIN = 4.0
L1_MARGIN = 1e-4
FOLLOWERS = 6
AMPLITUDE = 1.7320508


def draw_image(number):
    return generate(f"input:trajectory/{number}/image", (CONFIG["B"], 3, CONFIG["img"], CONFIG["img"]), 0.0, AMPLITUDE)[0]


def draw_labels(number):
    """Labels by task; about one pixel in eight is 255, except for `sal`."""
    labels = {}
    for task in TASKS:
        name, shape = f"label:trajectory/{number}/{task}", (CONFIG["B"], 1, CONFIG["img"], CONFIG["img"])
        if task == "normals":
            values = generate(name, (shape[0], 3, *shape[2:]), 0.0, AMPLITUDE)[0].double()
            values = (values / values.norm(dim=1, keepdim=True)).float()
            z = generate(f"{name}:ignore", shape, 0.0, 1.0)[1]
        else:
            z = generate(name, shape, 0.0, 1.0)[1]
            values = torch.from_numpy((z % np.uint64(CLASSES[task])).astype(np.float32))
        ignored = torch.from_numpy((z >> np.uint64(33)) % np.uint64(8) == 0)
        labels[task] = values if task == "sal" else torch.where(ignored, torch.tensor(float(IGNORE)), values)
    return labels


def rate(step, train):
    """The rate of an update: that of the schedule one update before, which itself starts with `warmup_lr`."""
    t, warmup = max(step - 1, 0), train["warmup_epochs"] * train["iters_per_epoch"]
    if t < warmup:
        return train["warmup_lr"] + t * (train["base_lr"] - train["warmup_lr"]) / warmup
    t, length = t - warmup, train["epochs"] * train["iters_per_epoch"] - warmup
    return train["min_lr"] + 0.5 * (train["base_lr"] - train["min_lr"]) * (1 + math.cos(math.pi * t / length))


class Run:
    """A network, its optimiser, and the inputs of its ReLUs in the last forward pass."""

    def __init__(self, model, train):
        self.model, self.train = model.train(), train
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.decayed = [name for name, p in named if p.ndim >= 2 and not name.endswith(".bias")]
        self.trained = dict(named)
        groups = [
            {"params": [self.trained[name] for name in self.decayed], "weight_decay": train["weight_decay"]},
            {"params": [p for name, p in named if name not in set(self.decayed)], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=train["betas"], eps=train["eps"])
        self.relu_inputs = {}
        for task in TASKS:
            relu = model.decoders.decoders[task].last_layer[2]
            relu.register_forward_pre_hook(self.keep(task))

    def keep(self, task):
        def hook(_, inputs):
            self.relu_inputs[task] = inputs[0].detach()

        return hook

    def dtype(self):
        return next(self.model.parameters()).dtype

    def forward(self, image):
        return self.model(image.to(self.dtype()))

    def losses(self, logits, labels):
        losses = {task: task_loss(task, logits[task], labels[task].to(self.dtype())) for task in TASKS}
        return losses, sum(WEIGHTS[task] * loss for task, loss in losses.items())

    def step(self, image, labels, lr):
        """One update. Gives losses and gradient norm, and what decides the signs: ReLU inputs and L1 differences."""
        logits = self.forward(image)
        losses, total = self.losses(logits, labels)
        self.optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), self.train["clip"])
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        seen = {task: loss.item() for task, loss in losses.items()}
        seen |= {"total": total.item(), "grad_norm": norm.item(), "lr": lr}
        return seen, dict(self.relu_inputs), differences(logits["normals"].detach(), labels["normals"])


def differences(logits, label):
    direction = logits / (logits.norm(dim=1, keepdim=True) + 1e-12)
    return torch.where(label == IGNORE, torch.inf, direction - label)


def moved(model, seed):
    """A copy in which every weight is one unit in the last place of f32 larger or smaller."""
    twin = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in twin.parameters():
            single = p.float()
            up = torch.rand(p.shape, generator=draw) < 0.5
            ulp = torch.where(up, torch.tensor(torch.inf), torch.tensor(-torch.inf))
            p.copy_(torch.nextafter(single, ulp).to(p.dtype))
    return twin


def largest_distance(found, expected):
    """The largest |found - expected| where the expected number is finite."""
    finite = expected.isfinite()
    return (found.double() - expected.double())[finite].abs().max().item()


def look(run, image):
    """A forward pass that leaves no trace: the logits, and the inputs of the ReLUs."""
    buffers = {name: buffer.clone() for name, buffer in run.model.named_buffers()}
    with torch.no_grad():
        logits = run.forward(image)
        for name, buffer in run.model.named_buffers():
            buffer.copy_(buffers[name])
    return logits, dict(run.relu_inputs)


def spread(followers, image, relus):
    """How far the followers are from the leader, by task and channel: `(1, c, 1, 1)`."""
    spread = {task: 0.0 for task in TASKS}
    for follower in followers:
        own = look(follower, image)[1]
        for task, z in relus.items():
            distance = (own[task].double() - z).abs().amax((0, 2, 3), keepdim=True)
            spread[task] = torch.maximum(distance, torch.as_tensor(spread[task]))
    return spread


def margin(relus, spread):
    """The smallest distance of a ReLU's input from zero, in spreads of its channel."""
    return min((z.abs() / spread[task]).min().item() for task, z in relus.items())


def off_the_edges(leader, followers, number, before):
    """The first image from `number` on with which no ReLU of the next forward pass is near its edge."""
    tried = 0
    while True:
        tried += 1
        image = draw_image(number)
        logits, relus = look(leader, image)
        # What the followers were off by in the step before spares asking them in vain.
        if before is None or margin(relus, before) >= RELU_MARGIN / 2:
            before = spread(followers, image, relus)
            if margin(relus, before) >= RELU_MARGIN:
                return number, image, logits, before, tried
        number += 1


def make(path):
    names = {"config": CONFIG, "params": parameters()}
    base = build(names)
    leader = Run(copy.deepcopy(base).double(), TRAIN)
    followers = [Run(copy.deepcopy(base), TRAIN)] + [Run(moved(base, seed + 1), TRAIN) for seed in range(FOLLOWERS)]
    number, steps, widths = 0, [], None
    for step in range(TRAIN["steps"]):
        number, image, logits, widths, tried = off_the_edges(leader, followers, number, widths)
        labels = draw_labels(number)
        near = (differences(logits["normals"], labels["normals"]).abs() < L1_MARGIN).any(1, keepdim=True)
        labels["normals"] = torch.where(near, torch.tensor(float(IGNORE)), labels["normals"])
        lr = rate(step, TRAIN)
        seen, relus, l1 = leader.step(image, labels, lr)
        assert l1.abs().min() >= L1_MARGIN
        assert abs(seen["grad_norm"] / TRAIN["clip"] - 1) > 1e-3, "the norm stands on the clipping threshold"
        worst = {"l1": 0.0, "norm": 0.0, "loss": 0.0}
        for follower in followers:
            own, own_relus, own_l1 = follower.step(image, labels, lr)
            for task, z in relus.items():
                assert ((own_relus[task] > 0) == (z > 0)).all(), "a follower is on the other side of a ReLU's edge"
            worst["l1"] = max(worst["l1"], largest_distance(own_l1, l1))
            worst["norm"] = max(worst["norm"], abs(own["grad_norm"] / seen["grad_norm"] - 1))
            worst["loss"] = max(worst["loss"], *(abs(own[key] / seen[key] - 1) for key in (*TASKS, "total")))
        shown = ", ".join(f"{key} {value:.1e}" for key, value in worst.items())
        tally = f"batch {number} after {tried}, {int(near.sum())} pixels without a label, ReLUs {margin(relus, widths):.1f}"
        print(f"step {step:2}: {tally}; followers are off by {shown}", flush=True)
        assert margin(relus, widths) >= RELU_MARGIN and worst["l1"] <= L1_MARGIN / 10, "rounding can cross an edge"
        steps.append(seen | {"batch": number, "unlabelled": near.flatten().nonzero().flatten().tolist()})
        number += 1

    trained = leader.trained
    # Without a gradient the optimiser leaves a weight alone.
    never = [name for name, p in trained.items() if p.grad is None]
    meta = {
        "config": CONFIG, "train": TRAIN, "trainable": list(trained), "weight_decay_names": leader.decayed, "never_updated": never,
        "per_step": {key: [step[key] for step in steps] for key in steps[0]},
    }
    tensors = {f"final/{name}": p.detach() for name, p in trained.items() if name not in never}
    for name, buffer in leader.model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            tensors[f"final_buf/{name}"] = buffer
    leader.model.eval()
    with torch.no_grad():
        image, labels = draw_image(steps[0]["batch"]), draw_labels(steps[0]["batch"])
        logits = leader.forward(image)
        losses, total = leader.losses(logits, labels)
        meta["final_eval"] = {task: loss.item() for task, loss in losses.items()} | {"total": total.item()}
        # Every eighth pixel of every eighth row.
        tensors |= {f"final_eval/{task}": logits[task][:, :, ::8, ::8] for task in TASKS}
    arrays = {name: np.ascontiguousarray(tensor.numpy().astype(np.float32)) for name, tensor in tensors.items()}
    save_file(arrays, path, {"meta": json.dumps(meta)})
    print_final(leader, followers, never)


def print_final(leader, followers, never):
    """Prints how far the followers' weights end from the leader's, of the way that each has come."""
    start = dict(build({"config": CONFIG, "params": parameters()}).named_parameters())
    worst, still = (0.0, ""), 0.0
    for follower in followers:
        for name, p in leader.trained.items():
            if name.endswith(".last_layer.0.bias"):
                still = max(still, (follower.trained[name] - start[name]).abs().max().item())
            elif name not in never:
                way = (p.detach() - start[name].detach()).square().mean().sqrt()
                off = (follower.trained[name].detach() - p.detach()).square().mean().sqrt()
                worst = max(worst, ((off / way).item(), name))
    print(f"final weights: {worst[0]:.1e} of the way at most ({worst[1]}); a bias that stands still moved {still:.1e}")


def parameters():
    """Names, shapes and kinds of the network's state, for `build`."""
    from tadformer_torch import Config, TADFormer

    config = Config(
        image_size=CONFIG["img"], embed_dim=CONFIG["embed"], depths=tuple(CONFIG["depths"]), num_heads=tuple(CONFIG["heads"]),
        window_size=CONFIG["window"], rank=CONFIG["r"], channels=tuple(CONFIG["channels"]), tasks=TASKS,
    )
    state = TADFormer(config).state_dict()
    return [(name, list(t.shape), "state") for name, t in state.items() if not name.endswith("num_batches_tracked")]


def check(path):
    """Follows the trajectory of the published code in `path`."""
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["meta"])
        assert meta["config"] == CONFIG, "another network"
        train = meta["train"]
        run = Run(build({"config": CONFIG, "params": parameters()}).double(), train)
        assert set(run.trained) == set(meta["trainable"]) and set(run.decayed) == set(meta["weight_decay_names"])
        worst = {}
        for step in range(train["steps"]):
            batch = step % train["nbatch"]
            labels = {task: file.get_tensor(f"batch{batch}/label/{task}") for task in TASKS}
            seen = run.step(file.get_tensor(f"batch{batch}/image"), labels, rate(step, train))[0]
            for key, value in seen.items():
                worst[key] = max(worst.get(key, 0.0), abs(value / meta["per_step"][key][step] - 1))
        for key, value in worst.items():
            print(f"{key}: off by {value:.1e} at most")
        off = 0.0
        for name, p in run.trained.items():
            if not name.endswith(".last_layer.0.bias"):
                off = max(off, largest_distance(p.detach(), file.get_tensor(f"final/{name}")))
        print(f"final weights: off by {off:.1e} at most")


def main():
    # The network is too small for more, and the order of every sum is settled.
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="FILE", help="follow the trajectory in FILE, and write nothing")
    parser.add_argument("--output", default=str(HERE / "trajectory.safetensors"))
    arguments = parser.parse_args()
    check(arguments.check) if arguments.check else make(arguments.output)


if __name__ == "__main__":
    main()
