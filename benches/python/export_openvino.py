"""Exports the eager model to OpenVINO: export_openvino.py FILE.xml predict [--size …] [--batch …]

The graph ends in the same maps as every other worker's step. The outputs of the exported model are compared with the
eager model's before the file is written.
"""

import os
import sys
import warnings

import bench_setup


def main():
    if len(sys.argv) < 3 or not sys.argv[1].endswith(".xml"):
        sys.exit(__doc__)
    output = sys.argv.pop(1)
    arguments = bench_setup.parse(__doc__.splitlines()[0])
    bench_setup.need("openvino")
    # The tracer says that sizes become constants, which is what is wanted.
    warnings.filterwarnings("ignore")
    import openvino
    import torch

    from tadformer_torch import Maps

    torch.set_num_threads(arguments.threads)
    model = Maps(bench_setup.build(arguments).eval(), arguments.tasks)
    image = bench_setup.images(arguments)
    with torch.no_grad():
        exported = openvino.convert_model(model, example_input=image, input=[tuple(image.shape)])
        expected = model(image)
    compiled = openvino.Core().compile_model(exported, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for task, map, wanted in zip(arguments.tasks, compiled([image.numpy()]).values(), expected):
        map = torch.from_numpy(map)
        if wanted.is_floating_point():
            difference = (map - wanted).abs().max().item()
        else:
            # A class may tip over where two logits are equal up to rounding.
            difference = (map != wanted).double().mean().item()
        if not difference < 1e-3:
            sys.exit(f"the exported model differs from the eager one: task `{task}` by {difference:.1e}")
        print(f"{task}: differs by {difference:.1e}")
    openvino.save_model(exported, output + ".new.xml", compress_to_fp16=False)
    os.replace(output + ".new.bin", output[: -len(".xml")] + ".bin")
    os.replace(output + ".new.xml", output)


if __name__ == "__main__":
    main()
