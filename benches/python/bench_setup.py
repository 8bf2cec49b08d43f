"""What is measured: arguments, inputs and models, the same in every Python worker."""

import argparse
import importlib.util
import sys

MODULES = {"torch": "torch", "timm-peft": "peft", "openvino": "openvino"}


def parse(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("what", choices=["predict", "train"])
    parser.add_argument("--engine", default="torch", choices=list(MODULES))
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--tasks", default="semseg,normals,sal,human_parts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exported", help="the exported model (engine openvino)")
    arguments = parser.parse_args()
    arguments.tasks = tuple(arguments.tasks.split(","))
    need(MODULES[arguments.engine])
    return arguments


def need(module):
    if importlib.util.find_spec(module) is None:
        sys.exit(f"python module `{module}` is not installed: pip install -r benches/python/requirements.txt")


def build(arguments):
    """The model of the engine, with random weights."""
    import torch

    from tadformer_torch import Config, TADFormer

    torch.manual_seed(0)
    config = Config(image_size=arguments.size, rank=arguments.rank, tasks=arguments.tasks)
    if arguments.engine == "timm-peft":
        from timm_peft import TimmPeft

        return TimmPeft(config)
    return TADFormer(config)


def images(arguments):
    import torch

    return torch.randn(arguments.batch, 3, arguments.size, arguments.size)


def labels(arguments):
    """Random labels; an eighth of the pixels is ignored where a task allows it."""
    import torch
    import torch.nn.functional as F

    from tadformer_torch import OUTPUTS

    shape = (arguments.batch, 1, arguments.size, arguments.size)
    found = {}
    for task in arguments.tasks:
        ignored = torch.rand(shape) < 0.125
        if task in ("sal", "edge"):
            found[task] = torch.randint(0, 2, shape).float()
            continue
        if task == "normals":
            values = F.normalize(torch.randn(shape[0], 3, *shape[2:]), dim=1)
        elif task == "depth":
            values = torch.rand(shape) * 5 + 0.5
        else:
            values = torch.randint(0, OUTPUTS[task], shape).float()
        found[task] = torch.where(ignored, torch.tensor(255.0), values)
    return found
