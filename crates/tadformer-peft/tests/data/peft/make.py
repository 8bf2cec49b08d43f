"""Writes this folder with Hugging Face PEFT: an adapter of two linears, and what the adapted network computes.

    pip install torch peft safetensors
    python make.py
"""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(5, 6)
        self.fc2 = nn.Linear(6, 4, bias=False)

    def forward(self, xs):
        return self.fc2(self.fc1(xs))


torch.manual_seed(0)
net = Net()
base = {name: value.clone() for name, value in net.state_dict().items()}
config = LoraConfig(r=2, lora_alpha=3, lora_dropout=0.1, target_modules=["fc1", "fc2"])
model = get_peft_model(net, config).eval()
for name, value in model.named_parameters():
    if "lora_B" in name:
        nn.init.normal_(value)
xs = torch.randn(3, 5)
with torch.no_grad():
    ys = model(xs)
model.save_pretrained(HERE)
(HERE / "README.md").unlink(missing_ok=True)
save_file({**base, "xs": xs, "ys": ys}, HERE / "case.safetensors")
