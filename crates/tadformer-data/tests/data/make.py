"""Writes the pictures and .mat files beside it that Rust encoders cannot write (Python 3, pillow, numpy, scipy)."""

import pathlib

import numpy as np
import scipy.io
import scipy.sparse
from PIL import Image

HERE = pathlib.Path(__file__).parent

# Four flat quadrants, none equal to another after any turn: red, green / blue, grey.
quadrants = np.zeros((24, 32, 3), np.uint8)
quadrants[:12, :16] = (200, 30, 30)
quadrants[:12, 16:] = (30, 200, 30)
quadrants[12:, :16] = (30, 30, 200)
quadrants[12:, 16:] = (120, 120, 120)
picture = Image.fromarray(quadrants)

folder = HERE / "pictures"
picture.save(folder / "progressive.jpg", quality=95, progressive=True, subsampling=0)
picture.convert("L").save(folder / "grey.jpg", quality=95)
picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[274] = orientation
    picture.save(folder / f"exif_{orientation}.jpg", quality=95, subsampling=0, exif=exif)

objects = np.zeros((1, 2), dtype=[("name", object), ("mask", object)])
objects[0, 0] = ("first", np.eye(3, dtype=bool))
objects[0, 1] = ("", np.zeros((0, 0)))
cell = np.empty((1, 2), dtype=object)
cell[0, 0] = np.arange(6, dtype=np.int16).reshape(2, 3)
cell[0, 1] = "text in a cell"
variables = {
    "doubles": np.array([[1.5, -2.0], [1e300, 0.0]]),
    "singles": np.array([[0.25, 3.0]], np.float32),
    "bytes": np.array([[0, 255]], np.uint8),
    "longs": np.array([[-(2**40), 2**40]], np.int64),
    "logical": np.array([[True, False, True]]),
    "text": "Grüße",
    "cell": cell,
    "objects": objects,
    "complex": np.array([[1 + 2j]]),
    "sparse": scipy.sparse.csc_matrix(np.eye(2)),
    "empty": np.zeros((0, 3)),
}
for name, compressed in (("plain", False), ("compressed", True)):
    scipy.io.savemat(HERE / "mat" / f"scipy_{name}.mat", variables, do_compression=compressed)
