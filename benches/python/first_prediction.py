"""What `tadformer-cli predict` does, in eager PyTorch: one picture in, a PNG a task and a panel out.

python first_prediction.py --weights FILE [--make] --input PNG --output FOLDER [--size …] [--rank …]

`--make` writes random weights to FILE instead.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tadformer_torch import Config, TADFormer, activate

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def draw(task, map, palette):
    """A map `(1, …, h, w)` as an RGB picture."""
    if task in ("semseg", "human_parts"):
        return palette[map[0].numpy()]
    if task == "normals":
        return ((map[0].permute(1, 2, 0) + 1) * 127.5).byte().numpy()
    grey = map / map.max() if task == "depth" else map
    return (grey[0].expand(3, -1, -1).permute(1, 2, 0) * 255).byte().numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--input")
    parser.add_argument("--output")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--tasks", default="semseg,normals,sal,human_parts")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tasks = tuple(arguments.tasks.split(","))
    model = TADFormer(Config(image_size=arguments.size, rank=arguments.rank, tasks=tasks))
    if arguments.make:
        torch.save(model.state_dict(), arguments.weights)
        return
    model.load_state_dict(torch.load(arguments.weights, weights_only=True, mmap=True))
    model.eval()

    picture = Image.open(arguments.input).convert("RGB")
    pixels = torch.from_numpy(np.array(picture.resize((arguments.size,) * 2, Image.Resampling.BICUBIC)))
    image = pixels.permute(2, 0, 1).float() / 255
    image = (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        logits = model(image.unsqueeze(0))
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    palette = (np.arange(256)[:, None] * np.array([37, 91, 157]) % 256).astype(np.uint8)
    drawn = [np.asarray(picture)]
    for task in tasks:
        size = (picture.height, picture.width)
        full = F.interpolate(logits[task], size, mode="bilinear", align_corners=False)
        drawn.append(draw(task, activate(task, full), palette))
        Image.fromarray(drawn[-1]).save(output / f"{task}.png")
    Image.fromarray(np.concatenate(drawn, 1)).save(output / "panel.png")


if __name__ == "__main__":
    main()
