#!/usr/bin/env bash
# Three readers of one Swin, and a picture whose grid no window fits.
#
# torchvision 0.29 and transformers 5.24 pad the grid with zeros and roll it then; timm 1.0.31 rolls first and pads then.
# So the first block, which is not shifted, is the same in all three, and from the second on timm is another network.
# timm also keeps the shifts it was built with: built for 224, its last block has none at 448, where one built for 448 has.
#
# Seen: 256 x 256, after block 1: all the same to 3e-16. After block 2: torchvision and transformers still, timm off by
# 1.6e-2 of the largest number. 448 x 448: torchvision and timm built for 448 are the same, built for 224
# off by 9.2e-3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.0 torchvision==0.29.0 timm==1.0.31 transformers==5.24.0
"$folder/venv/bin/python" - <<'PY'
import timm, torch, torchvision, transformers

torch.manual_seed(0)
torch.set_grad_enabled(False)
tv = torchvision.models.swin_t().double().eval()
for name, p in tv.named_parameters():
    # Biases that are not zero, so that padding is felt.
    p.add_(0.3 * torch.randn_like(p) if name.endswith(("bias", "bias_table")) else 0)


def timm_name(name):
    """torchvision's name in timm's words."""
    name = name.replace("features.0.0.", "patch_embed.proj.").replace("features.0.2.", "patch_embed.norm.")
    if name.startswith("features."):
        _, at, rest = name.split(".", 2)
        stage, merging = divmod(int(at), 2)
        name = f"layers.{stage}.downsample.{rest}" if not merging else f"layers.{stage}.blocks.{rest}"
    return name.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.").replace("head.", "head.fc.")


state = {timm_name(name): p for name, p in tv.state_dict().items() if "position_index" not in name}


def of_timm(size):
    net = timm.create_model("swin_tiny_patch4_window7_224", img_size=size, strict_img_size=False).double().eval()
    net.load_state_dict(state)
    return net


hf = transformers.SwinModel(transformers.SwinConfig(image_size=224), add_pooling_layer=False).double().eval()
merged = {}
for name, p in state.items():
    if name.startswith("head"):
        continue
    if name.startswith("layers.") and ".downsample." in name:
        stage = int(name.split(".")[1]) - 1
        name = f"encoder.layers.{stage}.{name.split('.', 2)[2]}"
    elif name.startswith("layers."):
        name = "encoder." + name
    for a, b in [("patch_embed.proj", "embeddings.patch_embeddings.projection"), ("patch_embed.norm", "embeddings.norm"),
                 ("norm1", "layernorm_before"), ("norm2", "layernorm_after"), ("attn.proj", "attention.o_proj"),
                 ("attn.relative", "attention.relative_position_bias.relative")]:
        name = name.replace(a, b)
    if "attn.qkv" in name:
        for part, row in zip("qkv", p.chunk(3)):
            merged[name.replace("attn.qkv", f"attention.{part}_proj")] = row
    else:
        merged["layernorm." + name.split(".")[-1] if name.startswith("norm.") else name] = p
found = hf.load_state_dict(merged, strict=False)
assert not found.unexpected_keys and all("position_index" in name for name in found.missing_keys), found


def blocks_of(net, blocks, image, grid):
    """Outputs of blocks, as (rows, columns, channels)."""
    out, hooks = [], []
    for block in blocks:
        hooks.append(block.register_forward_hook(
            lambda _, __, y: out.append((y[0] if isinstance(y, tuple) else y).reshape(grid, grid, -1))))
    net(image)
    [hook.remove() for hook in hooks]
    return out


def off(a, b):
    return float((a - b).abs().max() / a.abs().max())


image = torch.randn(1, 3, 256, 256, dtype=torch.float64)
a = blocks_of(tv, tv.features[1], image, 64)
b = blocks_of(hf, hf.encoder.layers[0].blocks, image, 64)
net = of_timm(256)
c = blocks_of(net, net.layers[0].blocks, image, 64)
for block in (0, 1):
    print(f"256, block {block + 1}: transformers off by {off(a[block], b[block]):.1e}, timm by {off(a[block], c[block]):.1e}")
assert off(a[0], b[0]) < 1e-5 and off(a[0], c[0]) < 1e-5 and off(a[1], b[1]) < 1e-5 and off(a[1], c[1]) > 1e-3

image = torch.randn(1, 3, 448, 448, dtype=torch.float64)
features = tv.norm(tv.features(image))
built = {size: off(features, of_timm(size).forward_features(image)) for size in (448, 224)}
print(f"448: timm built for 448 off by {built[448]:.1e}, for 224 by {built[224]:.1e}")
assert built[448] < 1e-5 and built[224] > 1e-3
PY
