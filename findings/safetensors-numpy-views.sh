#!/bin/sh
# safetensors 0.8.0 writes a NumPy view's memory under the view's shape: after `transpose`, a slice with steps or a flip,
# other numbers come back, and nothing is said. 0.7.0 copies such views first. `numpy.ascontiguousarray` is right in both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.3.5 safetensors==0.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import numpy, safetensors
from safetensors.numpy import load, save

hwc = numpy.arange(24, dtype=numpy.float32).reshape(2, 4, 3)
views = {"transpose": hwc.transpose(2, 0, 1), "step": hwc[:, ::2], "flip": hwc[::-1]}
print("safetensors", safetensors.__version__, "numpy", numpy.__version__)
for name, view in views.items():
    back = load(save({name: view}))[name]
    whole = load(save({name: numpy.ascontiguousarray(view)}))[name]
    print(f"{name}: shape {back.shape}, same numbers {numpy.array_equal(back, view)},",
          f"of a contiguous copy {numpy.array_equal(whole, view)}")
    assert back.shape == view.shape and not numpy.array_equal(back, view)
    assert numpy.array_equal(whole, view)
first = load(save({"x": views["transpose"]}))["x"].ravel()[:4].tolist()
print("first numbers of the transposed view", views["transpose"].ravel()[:4].tolist(), "come back as", first)
assert first == [0.0, 1.0, 2.0, 3.0]
PYTHON
# safetensors 0.8.0 numpy 2.3.5
# transpose: shape (3, 2, 4), same numbers False, of a contiguous copy True
# step: shape (2, 2, 3), same numbers False, of a contiguous copy True
# flip: shape (2, 4, 3), same numbers False, of a contiguous copy True
# first numbers of the transposed view [0.0, 3.0, 6.0, 9.0] come back as [0.0, 1.0, 2.0, 3.0]
