"""The parts from the shelf: timm's Swin-T, PEFT's LoRA at the four linears, and the same HRNet heads.

A lesser model than TADFormer: no prompts, no task streams, no dynamic filters; all tasks see the same features.
The map of stage 1 is averaged down to the grid of stage 2, so that the heads work at the same size as TADFormer's.
"""

import timm
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from tadformer_torch import Decoders, Downsampler


class TimmPeft(nn.Module):
    """Image `(b, 3, h, w)` to a dictionary of logits `(b, outputs, h, w)`."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        backbone = timm.create_model(
            "swin_tiny_patch4_window7_224", pretrained=False, features_only=True,
            img_size=config.image_size, drop_path_rate=config.drop_path_rate,
        )
        lora = LoraConfig(
            r=config.rank, lora_alpha=config.scale * config.rank, lora_dropout=config.lora_dropout,
            target_modules=["qkv", "proj", "fc1", "fc2"],
            # The patch embedding's convolution is called `proj` too.
            exclude_modules=["patch_embed.proj"],
        )
        self.backbone = inject_adapter_in_model(lora, backbone)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = "lora_" in name
        c = config.embed_dim
        in_dims = (c, 2 * c, 4 * c, 8 * c)
        self.downsampler = nn.ModuleDict({task: Downsampler(in_dims, config.channels) for task in config.tasks})
        self.decoders = Decoders(config)

    def forward(self, image):
        features = [feature.permute(0, 3, 1, 2) for feature in self.backbone(image)]
        features[0] = F.avg_pool2d(features[0], 2)
        logits = {}
        for task in self.config.tasks:
            output = self.decoders.decoders[task](self.downsampler[task](features))
            logits[task] = F.interpolate(output, image.shape[2:], mode="bilinear", align_corners=False)
        return logits
