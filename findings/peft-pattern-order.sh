#!/usr/bin/env bash
# peft 0.21.2: the order of `alpha_pattern` decides, and saving changes it.
#
# A layer takes the value of the first pattern that matches its name. `save_pretrained` writes the configuration with sorted
# keys, so the folder holds the alphabet's order: reloaded, the same weights have other factors and compute something else,
# without a warning. A reader has to go by the file's order, whatever the training script said. `rank_pattern` is sorted too;
# there the shapes no longer fit and loading fails.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.14.0 peft==0.21.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import copy, json, warnings
import peft, torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

warnings.filterwarnings("ignore")
print("peft", peft.__version__, "torch", torch.__version__)
torch.manual_seed(0)
base = nn.ModuleDict({"enc": nn.Sequential(nn.Linear(8, 8, bias=False))})
base.forward = lambda xs: base["enc"](xs)
again = copy.deepcopy(base)
again.forward = lambda xs: again["enc"](xs)
config = LoraConfig(r=2, lora_alpha=2, target_modules=["enc.0"], alpha_pattern={"enc.0": 20, "e.*": 4})
model = get_peft_model(base, config)
for name, value in model.named_parameters():
    if "lora_B" in name:
        nn.init.normal_(value)
model.save_pretrained("folder")
written = json.load(open("folder/adapter_config.json"))["alpha_pattern"]
loaded = PeftModel.from_pretrained(again, "folder")
factor = lambda model: model.base_model.model["enc"][0].scaling["default"]
xs = torch.randn(3, 8)
with torch.no_grad():
    difference = (base(xs) - again(xs)).abs().max().item()
print("given", config.alpha_pattern, "written", written)
print(f"factor {factor(model)} trained, {factor(loaded)} loaded; outputs differ by {difference:.2g}")
assert list(written) == ["e.*", "enc.0"]
assert (factor(model), factor(loaded)) == (10.0, 2.0) and difference > 0.1
PY
