#!/usr/bin/env bash
# torchmetrics 1.9.0 (torch 2.14.0): the macro Jaccard index is not the mean of the per-class values that the same metric
# gives with average="none". A class that occurs nowhere and one that is only predicted both read 0.0 there, but the mean
# leaves out the first and counts the second. Four classes, labels 0 0 1 1, predictions 0 0 1 2:
#
#   MulticlassJaccardIndex(average="none")                  1.0 0.5 0.0 0.0, mean 0.375
#   MulticlassJaccardIndex(average="macro")                 0.5, the mean over classes 0, 1, 2
#   MulticlassJaccardIndex(average="macro", ignore_index=2) 0.75: class 2 is no more counted, though no label is of it
#
# So a mean IoU over all classes (0.375), one over the labelled classes (0.75) and this one (0.5) are three numbers.
# Exits with 1 if that has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.14.0 torchmetrics==1.9.0
"$work/venv/bin/python" - <<'PY'
import sys
import torch
from torchmetrics.classification import MulticlassJaccardIndex

prediction, label = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 1])
seen = [
    (dict(average="none"), [1.0, 0.5, 0.0, 0.0]),
    (dict(average="macro"), [0.5]),
    (dict(average="macro", ignore_index=2), [0.75]),
]
changed = False
for settings, expected in seen:
    found = MulticlassJaccardIndex(num_classes=4, **settings)(prediction, label).reshape(-1).tolist()
    same = found == expected
    print("as seen" if same else "CHANGED", settings, found)
    changed |= not same
sys.exit(changed)
PY
