"""Writes this folder with Hugging Face PEFT: adapters, and what the adapted networks compute.

    pip install torch==2.14.0 peft==0.21.2
    python make.py

Here: an adapter of two linears. In `patterns`: one whose layers have ranks and factors of their own. PEFT sorts patterns when
it saves and takes the first that matches, so the outputs are those of the folder as PEFT reads it again.
"""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
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


class Deeper(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Net()
        self.head = nn.Linear(4, 3)

    def forward(self, xs):
        return self.head(self.encoder(xs))


def write(folder, net, config):
    folder.mkdir(exist_ok=True)
    base = {name: value.clone() for name, value in net.state_dict().items()}
    model = get_peft_model(net, config)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(value)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    again = type(net)()
    again.load_state_dict(base)
    model = PeftModel.from_pretrained(again, folder).eval()
    xs = torch.randn(3, 5)
    with torch.no_grad():
        ys = model(xs)
    save_file({**base, "xs": xs, "ys": ys}, folder / "case.safetensors")


torch.manual_seed(0)
write(HERE, Net(), LoraConfig(r=2, lora_alpha=3, lora_dropout=0.1, target_modules=["fc1", "fc2"]))
patterns = LoraConfig(
    r=2,
    lora_alpha=3,
    target_modules=["fc1", "fc2", "head"],
    rank_pattern={"encoder.fc[2]": 3, "^head": 1},
    alpha_pattern={"fc1": 20, "encoder.*": 4},
)
write(HERE / "patterns", Deeper(), patterns)
