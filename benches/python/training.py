"""The losses and the training step of the recipe: clipped gradients, AdamW."""

import torch
import torch.nn.functional as F

WEIGHTS = {"semseg": 1.0, "human_parts": 2.0, "sal": 5.0, "normals": 10.0, "edge": 50.0, "depth": 1.0}
IGNORE = 255


def balanced_bce(logits, label, positive_weight=None):
    positive = (label >= 0.5).to(logits.dtype)
    weight = 1 - positive.mean() if positive_weight is None else positive_weight
    pixels = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    return (pixels * (positive * weight + (1 - positive) * (1 - weight))).mean()


def normals_l1(prediction, label):
    prediction = prediction / (prediction.norm(dim=1, keepdim=True) + 1e-12)
    valid = label != IGNORE
    return (prediction - label).abs()[valid].sum() / valid.sum().clamp(min=1)


def task_loss(task, logits, label):
    if task in ("semseg", "human_parts"):
        return F.cross_entropy(logits, label[:, 0].long(), ignore_index=IGNORE)
    if task == "normals":
        return normals_l1(logits, label)
    if task == "depth":
        valid = label != IGNORE
        return (logits[valid] - label[valid]).abs().mean()
    return balanced_bce(logits, label, 0.95 if task == "edge" else None)


def total_loss(logits, labels):
    losses = {task: task_loss(task, logits[task].float(), labels[task]) for task in logits}
    return sum(WEIGHTS[task] * loss for task, loss in losses.items()), losses


def optimizer(model, lr):
    """AdamW without decay for vectors and biases; `None` gradients (unused norms) are left alone."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decays = lambda name, p: p.ndim >= 2 and not name.endswith(".bias")
    groups = [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": 0.05},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)


def train_step(model, optimizer, image, labels, autocast=False):
    """Forward, losses, backward, clip, update; gives the total loss."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model(image)
    total, _ = total_loss(logits, labels)
    optimizer.zero_grad()
    total.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 5.0)
    optimizer.step()
    return total.item()
