#!/usr/bin/env bash
# One position bias table, two libraries, another window.
#
# For a window of 12 instead of 7, Microsoft's code resizes a table as a picture: bicubic, half-pixel centres, which stretches
# the middle and overshoots at the ends. timm 1.0.31 spreads the displacements in geometrically growing steps instead, linear in
# between (with TIMM_USE_SCIPY_INTERP cubic): the bias of a neighbour stays that of a neighbour.
#
# Seen: a ramp from -6 to 6 ends at 6.00 and is 1.00 beside the middle with timm; 6.10 and 0.55 bicubic.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.0 timm==1.0.31
"$folder/venv/bin/python" - <<'PY'
import torch
from timm.layers import resize_rel_pos_bias_table

ramp = torch.arange(-6.0, 7.0)[:, None].expand(13, 13)
timm = resize_rel_pos_bias_table(ramp.reshape(169, 1), (12, 12), (529, 1)).view(23, 23)[:, 11]
bicubic = torch.nn.functional.interpolate(ramp[None, None], (23, 23), mode="bicubic", align_corners=False)[0, 0, :, 11]
for name, column in [("timm", timm), ("bicubic", bicubic)]:
    print(f"{name}: end {column[-1]:.2f}, beside the middle {column[12]:.2f}")
assert abs(timm[-1] - 6) < 0.01 and abs(timm[12] - 1) < 0.01
assert abs(bicubic[-1] - 6.10) < 0.01 and abs(bicubic[12] - 0.55) < 0.01
PY
