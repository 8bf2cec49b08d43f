"""TADFormer (arXiv 2501.04293) in plain eager PyTorch, written as research code is: one module a layer, a Python loop
over tasks, windows cut out of rolled tensors, prompts copied into every window.

It is the yardstick of `cargo xtask bench`: not tuned, and not slowed down either. Tensors carry the names of the
published code, so one weight file fits this model and the Rust one. `check_golden.py` holds it against golden numbers.

Tokens are `(b, h*w, c)`, a window batch is `(b*windows, tokens, c)`, maps are `(b, c, h, w)`.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

OUTPUTS = {"semseg": 21, "normals": 3, "sal": 1, "human_parts": 7, "edge": 1, "depth": 1}


@dataclass
class Config:
    """Sizes; the defaults are Swin-T, rank 64, 448², the four tasks of PASCAL-Context."""

    image_size: int = 448
    embed_dim: int = 96
    depths: tuple = (2, 2, 6, 2)
    num_heads: tuple = (3, 6, 12, 24)
    window_size: int = 7
    rank: int = 64
    scale: float = 4.0
    lora_dropout: float = 0.05
    drop_path_rate: float = 0.2
    prompts_per_task: int = 1
    channels: tuple = (18, 36, 72, 144)
    tasks: tuple = ("semseg", "normals", "sal", "human_parts")


class DropPath(nn.Module):
    """Drops the residual branch of a sample (arXiv 1603.09382)."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        return x * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep).div_(keep)


class FilterNorm(nn.Module):
    """Centres each filter, divides it by its unbiased deviation, then scales and shifts."""

    def __init__(self, channels, taps):
        super().__init__()
        self.channels, self.taps = channels, taps
        self.std = nn.Parameter(torch.randn(channels * taps) * math.sqrt(2) / math.sqrt(taps))
        self.mean = nn.Parameter(torch.randn(channels * taps))

    def forward(self, filters):
        b = filters.shape[0]
        filters = filters.reshape(b, self.channels, self.taps)
        filters = filters - filters.mean(2, keepdim=True)
        filters = filters / (filters.std(2, keepdim=True) + 1e-10)
        return filters.reshape(b, -1) * self.std + self.mean


class DynamicTaskFilter(nn.Module):
    """A depthwise convolution of each sample with filters made from that sample."""

    def __init__(self, channels, kernel_size=3):
        super().__init__()
        self.kernel_size = kernel_size
        self.conv = nn.Conv2d(channels, channels * kernel_size**2, 1)
        self.chan_FilterNorm = FilterNorm(channels, kernel_size**2)

    def forward(self, x):
        b, c, h, w = x.shape
        filters = self.conv(F.adaptive_avg_pool2d(x, 1)).flatten(1)
        filters = self.chan_FilterNorm(filters).reshape(b * c, 1, self.kernel_size, self.kernel_size)
        # One grouped convolution: every channel of every sample is a group.
        x = F.conv2d(x.reshape(1, b * c, h, w), filters.to(x.dtype), padding=self.kernel_size // 2, groups=b * c)
        return x.reshape(b, c, h, w)


class LoraLinear(nn.Module):
    """A frozen linear with a shared low-rank update and, with `task_filter`, task streams beside it."""

    def __init__(self, in_features, out_features, config, task_filter=False, prompt_norm=False):
        super().__init__()
        self.scale, self.tasks = config.scale, config.tasks
        self.linear = nn.Linear(in_features, out_features)
        self.drop = nn.Dropout(config.lora_dropout)
        self.lora_shared_A = nn.Parameter(torch.empty(config.rank, in_features))
        self.lora_shared_B = nn.Parameter(torch.zeros(out_features, config.rank))
        nn.init.kaiming_uniform_(self.lora_shared_A, a=math.sqrt(5))
        if task_filter:
            self.lora_filter = DynamicTaskFilter(config.rank)
        if prompt_norm:
            self.prompt_layernorm = nn.LayerNorm(in_features)

    def forward(self, x, x_tasks=None, size=None):
        base = self.linear(x)
        shared = base + self.update(self.drop(x))
        if x_tasks is None:
            return shared, None
        return shared, {task: base + self.task_update(x_tasks[task], size) for task in self.tasks}

    def update(self, x):
        return self.scale * F.linear(F.linear(x, self.lora_shared_A), self.lora_shared_B)

    def task_update(self, x, size):
        b, n, _ = x.shape
        z = F.linear(x, self.lora_shared_A)
        z = self.lora_filter(z.transpose(1, 2).reshape(b, -1, *size))
        return self.scale * F.linear(z.flatten(2).transpose(1, 2), self.lora_shared_B)

    def forward_windows(self, x, prompts, attention, size):
        """The output projection: `attention` (b, heads, prompts, tokens) conditions the task streams."""
        base = self.linear(x)
        x = self.drop(x)
        shared = base + self.update(x)
        if attention is None:
            return shared, None, None
        tokens, base = x[:, prompts:], base[:, prompts:]
        heads, per_task = attention.shape[1], prompts // len(self.tasks)
        streams, skips = {}, {}
        for i, task in enumerate(self.tasks):
            weight = attention[:, :, i * per_task : (i + 1) * per_task].mean(2).transpose(1, 2)
            weighted = tokens.unflatten(2, (heads, -1)) * weight.unsqueeze(-1)
            skips[task] = weighted.flatten(2)
            stream = self.prompt_layernorm(skips[task] + tokens)
            streams[task] = base + self.task_update(stream, size)
        return shared, streams, skips


def window_partition(x, window):
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, c)


def window_reverse(windows, window, h, w):
    c = windows.shape[-1]
    x = windows.view(-1, h // window, w // window, window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, c)


class WindowAttention(nn.Module):
    """Multi-head attention in a window over its tokens and the prompts before them."""

    def __init__(self, dim, window, num_heads, config, adapts):
        super().__init__()
        self.num_heads, self.window, self.adapts = num_heads, window, adapts
        self.scale = (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        coords = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = (coords[:, :, None] - coords[:, None, :]) + window - 1
        index = relative[0] * (2 * window - 1) + relative[1]
        self.register_buffer("relative_position_index", index, persistent=False)
        self.qkv = LoraLinear(dim, 3 * dim, config)
        self.proj = LoraLinear(dim, dim, config, task_filter=adapts, prompt_norm=True)

    def forward(self, x, prompts, mask):
        b, count = prompts.shape[:2]
        windows = x.shape[0] // b
        x = torch.cat([prompts.repeat_interleave(windows, 0), x], 1)
        bw, n, c = x.shape
        qkv = self.qkv(x)[0].reshape(bw, n, 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        raw = q @ k.transpose(-2, -1)
        scores = raw * self.scale
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        bias = bias.view(n - count, n - count, -1).permute(2, 0, 1)
        scores = scores + F.pad(bias, (count, 0, count, 0)).unsqueeze(0)
        if mask is not None:
            mask = F.pad(mask, (count, 0, count, 0))
            scores = scores.view(b, windows, self.num_heads, n, n) + mask[None, :, None]
            scores = scores.view(bw, self.num_heads, n, n)
        context = (scores.softmax(-1) @ v).transpose(1, 2).reshape(bw, n, c)
        attention = F.gelu(raw[:, :, :count, count:]) if self.adapts else None
        size = (self.window, self.window)
        y, streams, skips = self.proj.forward_windows(context, count, attention, size)
        prompts = y[:, :count].reshape(b, windows, count, c).mean(1)
        return y[:, count:], prompts, streams, skips


class Mlp(nn.Module):
    def __init__(self, dim, config, adapts):
        super().__init__()
        self.fc1 = LoraLinear(dim, 4 * dim, config, task_filter=adapts)
        self.fc2 = LoraLinear(4 * dim, dim, config, task_filter=adapts)

    def forward(self, x, x_tasks=None, size=None):
        x, x_tasks = self.fc1(x, x_tasks, size)
        if x_tasks is not None:
            x_tasks = {task: F.gelu(stream) for task, stream in x_tasks.items()}
        return self.fc2(F.gelu(x), x_tasks, size)


class Block(nn.Module):
    """A Swin block; the last of a stage (`adapts`) has one more stream a task."""

    def __init__(self, dim, side, num_heads, shifted, drop_path, config, adapts, last):
        super().__init__()
        self.side, self.last = side, last
        self.window = min(config.window_size, side)
        self.shift = config.window_size // 2 if shifted and side > config.window_size else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, self.window, num_heads, config, adapts)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, config, adapts)
        mask = None
        if self.shift:
            region = torch.zeros(side)
            region[-self.window :], region[-self.shift :] = 1, 2
            regions = (3 * region[:, None] + region).view(1, side, side, 1)
            regions = window_partition(regions, self.window).squeeze(-1)
            mask = torch.where(regions[:, None] != regions[:, :, None], -100.0, 0.0)
        self.register_buffer("attn_mask", mask, persistent=False)

    def forward(self, x, prompts):
        b, _, c = x.shape
        side, shortcut = self.side, x
        x = self.norm1(x).view(b, side, side, c)
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = window_partition(x, self.window)
        x, attended, streams, skips = self.attn(x, self.norm1(prompts), self.attn_mask)
        x = shortcut + self.drop_path(self.reverse(x))
        normed = None
        if streams is not None:
            skips = {task: self.reverse(skip) for task, skip in skips.items()}
            streams = {task: shortcut + self.drop_path(self.reverse(s)) for task, s in streams.items()}
            normed = {task: self.norm2(stream) for task, stream in streams.items()}
        y, y_tasks = self.mlp(self.norm2(x), normed, (side, side))
        x = x + self.drop_path(y)
        if streams is not None:
            streams = {task: streams[task] + self.drop_path(y_tasks[task]) for task in streams}
        if self.last:
            prompts = attended
        else:
            prompts = prompts + self.drop_path(self.mlp(self.norm2(attended))[0])
        return x, prompts, streams, skips

    def reverse(self, windows):
        x = window_reverse(windows, self.window, self.side, self.side)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x.flatten(1, 2)


class PatchMerging(nn.Module):
    def __init__(self, dim, side):
        super().__init__()
        self.side = side
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.task_prompts_up = nn.Linear(dim, 2 * dim, bias=False)

    def forward(self, x):
        b, _, c = x.shape
        x = x.view(b, self.side, self.side, c)
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(parts, -1).view(b, -1, 4 * c)))


class Stage(nn.Module):
    def __init__(self, index, dim, side, drop_paths, config):
        super().__init__()
        depth, final = config.depths[index], index == len(config.depths) - 1
        self.prompt_gate = nn.Parameter(torch.zeros(1))
        self.blocks = nn.ModuleList(
            Block(
                dim, side, config.num_heads[index], i % 2 == 1, drop_paths[i], config,
                adapts=i == depth - 1, last=final and i == depth - 1,
            )
            for i in range(depth)
        )
        self.downsample = None if final else PatchMerging(dim, side)

    def forward(self, x, prompts):
        for block in self.blocks:
            x, prompts, streams, skips = block(x, prompts)
        gate = torch.sigmoid(self.prompt_gate)
        streams = {task: gate * skips[task] + (1 - gate) * stream for task, stream in streams.items()}
        if self.downsample is not None:
            x = self.downsample(x)
            streams = {task: self.downsample(stream) for task, stream in streams.items()}
            prompts = self.downsample.task_prompts_up(prompts)
        return x, prompts, streams


class PatchEmbed(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 4, 4)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image):
        return self.norm(self.proj(image).flatten(2).transpose(1, 2))


class Backbone(nn.Module):
    def __init__(self, config):
        super().__init__()
        side, dim = config.image_size // 4, config.embed_dim
        prompts = torch.empty(len(config.tasks) * config.prompts_per_task, dim)
        self.task_prompts = nn.Parameter(nn.init.trunc_normal_(prompts, 1.0, 1.0, -2.0, 2.0))
        self.patch_embed = PatchEmbed(dim)
        rates = torch.linspace(0, config.drop_path_rate, sum(config.depths)).tolist()
        self.layers = nn.ModuleList()
        for i, depth in enumerate(config.depths):
            start = sum(config.depths[:i])
            self.layers.append(Stage(i, dim << i, side >> i, rates[start : start + depth], config))
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image):
        x = self.patch_embed(image)
        prompts = self.task_prompts.unsqueeze(0).expand(image.shape[0], -1, -1)
        stages = []
        for layer in self.layers:
            x, prompts, streams = layer(x, prompts)
            stages.append((x, streams))
        return stages


class Downsampler(nn.Module):
    """A task's 1×1 convolutions to the head's channels."""

    def __init__(self, in_dims, channels):
        super().__init__()
        for i, (dim, channel) in enumerate(zip(in_dims, channels)):
            setattr(self, f"downsample_{i}", nn.Conv2d(dim, channel, 1, bias=False))

    def forward(self, features):
        return [getattr(self, f"downsample_{i}")(feature) for i, feature in enumerate(features)]


class HRNetHead(nn.Module):
    """All scales brought to the first, concatenated, two 1×1 convolutions."""

    def __init__(self, channels, outputs):
        super().__init__()
        width = sum(channels)
        self.last_layer = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1),
            nn.BatchNorm2d(4 * width, momentum=0.1),
            nn.ReLU(inplace=False),
            nn.Conv2d(4 * width, outputs, 1),
        )

    def forward(self, features):
        size = features[0].shape[2:]
        rest = [F.interpolate(f, size, mode="bilinear", align_corners=False) for f in features[1:]]
        return self.last_layer(torch.cat([features[0], *rest], 1))


class Decoders(nn.Module):
    def __init__(self, config):
        super().__init__()
        heads = {task: HRNetHead(config.channels, OUTPUTS[task]) for task in config.tasks}
        self.decoders = nn.ModuleDict(heads)


class TADFormer(nn.Module):
    """Image `(b, 3, h, w)` to a dictionary of logits `(b, outputs, h, w)`."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        c = config.embed_dim
        in_dims = (2 * c, 4 * c, 8 * c, 8 * c)
        self.downsampler = nn.ModuleDict({task: Downsampler(in_dims, config.channels) for task in config.tasks})
        self.decoders = Decoders(config)
        for name, parameter in self.named_parameters():
            parameter.requires_grad = not is_frozen(name)

    def forward(self, image):
        stages = self.backbone(image)
        logits = {}
        for task in self.config.tasks:
            features = [to_map(streams[task]) for _, streams in stages]
            output = self.decoders.decoders[task](self.downsampler[task](features))
            logits[task] = F.interpolate(output, image.shape[2:], mode="bilinear", align_corners=False)
        return logits


def to_map(tokens):
    b, n, c = tokens.shape
    side = math.isqrt(n)
    return tokens.transpose(1, 2).reshape(b, c, side, side)


def is_frozen(name):
    """The linears under the low-rank updates, and the reduction of patch merging."""
    return name.startswith("backbone.") and (".linear." in name or "reduction" in name)


class Maps(nn.Module):
    """What a prediction is: classes, unit vectors, probabilities; a tuple in the order of the tasks."""

    def __init__(self, model, tasks):
        super().__init__()
        self.model, self.tasks = model, tasks

    def forward(self, image):
        logits = self.model(image)
        return tuple(activate(task, logits[task]) for task in self.tasks)


def activate(task, logits):
    if task in ("semseg", "human_parts"):
        return logits.argmax(1)
    if task == "normals":
        return F.normalize(logits, dim=1, eps=1e-12)
    return logits.clamp(min=0) if task == "depth" else torch.sigmoid(logits)
