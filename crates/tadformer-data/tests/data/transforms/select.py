"""Writes golden.safetensors from a full transforms.safetensors, for the tests of src/transforms.

    python select.py FULL.safetensors golden.safetensors

The full file holds what OpenCV 4.10 makes of one 80x60 sample (see the names: in, hflip, rot<degrees>_sc<scale>,
resize<height>x<width>, ignore, eval_pipeline, train_pipeline: flip, 13 degrees, scale 1.1, 56x56). Here are all of its
tensors, planes first (channels, height, width), whole numbers as bytes, a matrix as one plane.
"""
import json, struct, sys
import numpy as np

def read(path):
    data = open(path, "rb").read()
    size, = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    header.pop("__metadata__")
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        yield name, np.frombuffer(body[start:end], "<f4").reshape(entry["shape"])

header, body = {}, b""
for name, value in sorted(read(sys.argv[1])):
    if name.endswith("image_after_totensor"):
        value = np.round(value * 255)
    if value.ndim == 3 and "pipeline" not in name and not name.startswith("normalize") or name.endswith("before_uint8"):
        value = value.transpose(2, 0, 1)
    if value.ndim == 2:
        value = value[None]
    whole = np.all((value >= 0) & (value <= 255) & (value == np.round(value)))
    raw = np.ascontiguousarray(value.astype("u1" if whole else "<f4")).tobytes()
    header[name] = {"dtype": "U8" if whole else "F32", "shape": list(value.shape), "data_offsets": [len(body), len(body) + len(raw)]}
    body += raw
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + body)
