#!/bin/sh
# oxipng 9.1 is lossless in colours, not in numbers: the class ids that Pillow reads from a label map change. Where it makes
# the file smaller, grey {0, 1, 255} becomes a palette with the indices 0, 1, 2; {0, 255} becomes one bit, which Pillow still
# shows as 255 (a reader of samples sees 1); a palette loses its unused colours and is numbered anew.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==12.0.0 pyoxipng==9.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import random
import oxipng
from PIL import Image

def chunks(png):
    at = 8
    while at < len(png):
        size = int.from_bytes(png[at:at + 4], "big")
        yield png[at + 4:at + 8], png[at + 8:at + 8 + size]
        at += 12 + size

def optimised(image):
    png = io.BytesIO()
    image.save(png, "PNG")
    png = oxipng.optimize_from_memory(png.getvalue(), level=2)
    return png, Image.open(io.BytesIO(png))

def show(name, image, ids):
    random.seed(0)
    image.putdata(random.choices(ids, k=image.width * image.height))
    png, after = optimised(image)
    assert list(image.convert("RGB").getdata()) == list(after.convert("RGB").getdata()), "the colours are the same"
    kind = {0: "grey", 3: "palette"}[png[25]]
    palette = [tuple(data[i:i + 3]) for key, data in chunks(png) if key == b"PLTE" for i in range(0, len(data), 3)]
    found = sorted(set(after.getdata()))
    print(f"{name} {ids}: {kind} of {png[24]} bit, {palette or 'no palette'}, Pillow's numbers {found}")
    return kind, png[24], len(palette), found

def voc(index):
    return [sum((index >> (3 * k + c) & 1) << (7 - k) for k in range(3)) for c in range(3)]

size = (64, 64)
assert show("grey", Image.new("L", size), [0, 1, 255]) == ("palette", 2, 3, [0, 1, 2])
assert show("grey", Image.new("L", size), [0, 255]) == ("grey", 1, 0, [0, 255])
image = Image.new("P", size)
image.putpalette([channel for index in range(256) for channel in voc(index)])
assert show("VOC palette", image, [0, 15, 255]) == ("palette", 2, 3, [0, 1, 2])
PYTHON
# grey [0, 1, 255]: palette of 2 bit, [(0, 0, 0), (255, 255, 255), (1, 1, 1)], Pillow's numbers [0, 1, 2]
# grey [0, 255]: grey of 1 bit, no palette, Pillow's numbers [0, 255]
# VOC palette [0, 15, 255]: palette of 2 bit, [(0, 0, 0), (224, 224, 192), (192, 128, 128)], Pillow's numbers [0, 1, 2]
