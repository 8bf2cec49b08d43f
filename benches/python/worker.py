"""A PyTorch peer in `cargo xtask bench`: one step of work for every line `step`; see benches/worker/main.rs for the
protocol. What a step holds is the same on both sides:

predict  normalised images in; logits at full resolution; classes, unit vectors or probabilities of every task out
train    forward, losses, backward, clipping at 5.0, AdamW; drop path 0.2, dropout 0.05
"""

import json
import sys
import time

import bench_setup


def predict_torch(arguments):
    import torch

    from tadformer_torch import Maps

    model = Maps(bench_setup.build(arguments).eval(), arguments.tasks)
    image = bench_setup.images(arguments)

    def step():
        enabled = arguments.precision == "bf16"
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            return model(image)

    return step


def train_torch(arguments):
    from training import optimizer, train_step

    model = bench_setup.build(arguments).train()
    image, labels = bench_setup.images(arguments), bench_setup.labels(arguments)
    adamw = optimizer(model, lr=5e-4 * arguments.batch / 512)
    autocast = arguments.precision == "bf16"
    return lambda: train_step(model, adamw, image, labels, autocast)


def predict_openvino(arguments):
    import numpy
    import openvino

    if not arguments.exported:
        sys.exit("engine `openvino` runs an exported model: give it with --exported")
    core = openvino.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if arguments.precision == "bf16" and "BF16" not in capabilities:
        sys.exit("OpenVINO has no bf16 on this processor")
    # It chooses its own precision unless it is told one.
    settings = {
        "INFERENCE_PRECISION_HINT": arguments.precision,
        "INFERENCE_NUM_THREADS": arguments.threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(arguments.exported, "CPU", settings)
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    image = numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32)
    request = compiled.create_infer_request()
    return lambda: request.infer([image], share_inputs=True, share_outputs=True)


def about(arguments):
    versions = []
    if arguments.engine == "openvino":
        import openvino

        versions.append(f"openvino {openvino.__version__}")
        return {"version": versions[0], "threads": arguments.threads, "simd": "its own choice"}
    import torch

    torch.set_num_threads(arguments.threads)
    versions.append(f"torch {torch.__version__}")
    if arguments.engine == "timm-peft":
        import peft
        import timm

        versions += [f"timm {timm.__version__}", f"peft {peft.__version__}"]
    simd = torch.backends.cpu.get_cpu_capability()
    return {"version": ", ".join(versions), "threads": torch.get_num_threads(), "simd": simd}


def peak_memory():
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return "unknown"


def main():
    arguments = bench_setup.parse(__doc__.splitlines()[0])
    found = {"engine": arguments.engine, **about(arguments)}
    if arguments.engine == "openvino":
        if arguments.what == "train":
            sys.exit("OpenVINO does not train")
        step = predict_openvino(arguments)
    else:
        step = predict_torch(arguments) if arguments.what == "predict" else train_torch(arguments)
    print("ready", json.dumps(found), flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "end":
            break
        if word != "step":
            sys.exit(f"the worker was told `{word}`, expected `step` or `end`")
        start = time.perf_counter()
        step()
        print(f"seconds {time.perf_counter() - start:.6f}", flush=True)
    print("peak", peak_memory(), flush=True)


if __name__ == "__main__":
    main()
