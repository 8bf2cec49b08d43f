#!/usr/bin/env bash
# peft 0.21.2: an adapter that began as PiSSA or OLoRA does not fit the weights it was made for.
#
# `init_lora_weights="pissa"` (and "olora", "corda", "lora_ga", "loftq") takes the first value of the update out of the base's
# weight before training. The saved folder holds A and B alone, in the layout and under the type of a plain LoRA, so a reader
# that adds s·B·A to the published weight is off by more than the whole update, without any error. PEFT itself repeats the
# decomposition when it loads the folder. "gaussian", "orthogonal" and "mica" leave the base as it was. PEFT's conversion
# (`path_initial_model_for_weight_conversion`) makes a plain LoRA of twice the rank, whose file says `true`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.14.0 peft==0.21.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import json, warnings
import peft, torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn

warnings.filterwarnings("ignore")
print("peft", peft.__version__, "torch", torch.__version__)


def plain(folder, weight, xs):
    """What a reader computes that takes the folder for a LoRA."""
    config = json.load(open(f"{folder}/adapter_config.json"))
    file = load_file(f"{folder}/adapter_model.safetensors")
    a, b = (file[f"base_model.model.0.lora_{x}.weight"] for x in "AB")
    return config, xs @ (weight + config["lora_alpha"] / config["r"] * b @ a).T


for init in ["pissa", "olora", "orthogonal", "mica", "gaussian", True]:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(16, 16, bias=False))
    weight, xs = base[0].weight.detach().clone(), torch.randn(8, 16)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["0"], init_lora_weights=init)
    model = get_peft_model(base, config)
    model.save_pretrained("start/first")
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value += 0.05 * torch.randn_like(value)
        wanted = model(xs)
    model.save_pretrained("trained")
    written, found = plain("trained", weight, xs)
    error = (found - wanted).abs().max().item()
    update = (wanted - xs @ weight.T).abs().max().item()
    print(f"{init}: peft_type {written['peft_type']}, off by {error:.2g}, the update is {update:.2g}")
    if init in ("pissa", "olora"):
        assert error > update
        model.save_pretrained("plain", path_initial_model_for_weight_conversion="start/first")
        written, found = plain("plain", weight, xs)
        error = (found - wanted).abs().max().item()
        print(f"  converted: init_lora_weights {written['init_lora_weights']}, r {written['r']}, off by {error:.1g}")
        assert written["init_lora_weights"] is True and written["r"] == 8
    assert error < 1e-5
PY
