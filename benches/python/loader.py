"""The loader against the same steps in Python: milliseconds of processor time a sample on one core, and the ratio.

    pip install numpy scipy pillow scikit-image opencv-python-headless
    python benches/python/loader.py [--rounds 7] [--samples 20] [--side 512]

A PASCAL-Context tree with generated pictures of 375x500 pixels and labels for five tasks is written to a temporary
folder. Both sides decode every file of a sample, derive human parts, edges and valid normals, then flip, rotate and
scale, resize and normalise. They take turns in one run, so that what else the machine does falls on both. The Python
side is OpenCV, Pillow, SciPy and scikit-image, as published training code uses them, on one thread, without the cost
of processes or of collating batches. Both run with an allocator that keeps freed memory, as the program sets it.
"""

import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib

import cv2
import numpy as np
import scipy.io
from PIL import Image
from skimage.morphology import thin

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
HEIGHT, WIDTH = 375, 500
PARTS = {
    1: "head hair leye reye lear rear lebrow rebrow nose mouth",
    2: "neck torso",
    3: "luarm ruarm",
    4: "llarm rlarm lhand rhand",
    5: "luleg ruleg",
    6: "llleg rlleg lfoot rfoot",
}
PART_CLASS = {name: number for number, names in PARTS.items() for name in names.split()}
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_TOP_PAD_": "67108864",
}
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def valid_classes():
    descriptor = tomllib.loads((REPOSITORY / "datasets/pascal-context/dataset.toml").read_text())
    normals = next(task for task in descriptor["tasks"] if task["task"] == "normals")
    return np.array(normals["sources"][0]["encoding"]["valid"])


def write_tree(root, count):
    """Pictures with the spectrum of photographs, region maps of blobs, and a person of ellipses in each."""
    rng = np.random.default_rng(0)
    folders = ["JPEGImages", "semseg/VOC12", "human_parts", "sal_distill", "normals_distill",
               "pascal-context/trainval", "ImageSets/Context"]
    for folder in folders:
        (root / folder).mkdir(parents=True)

    def smooth(channels, sigma):
        noise = rng.standard_normal((HEIGHT, WIDTH, channels)).astype(np.float32)
        blurred = cv2.GaussianBlur(noise, (0, 0), sigma).reshape(HEIGHT, WIDTH, channels)
        return blurred / blurred.std()

    ids = [f"2008_{i:06}" for i in range(count)]
    for name in ids:
        image = 128 + 40 * smooth(3, 30) + 20 * smooth(3, 6) + 8 * smooth(3, 1.5)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"JPEGImages/{name}.jpg", quality=92)
        regions = smooth(12, 25).argmax(2)
        palette = Image.fromarray((regions % 21).astype(np.uint8), "P")
        palette.putpalette(list(range(256)) * 3)
        palette.save(root / f"semseg/VOC12/{name}.png")
        labels = np.array([2, 9, 23, 31, 45, 59, 68, 85, 113, 187, 284, 397], np.uint16)[regions]
        scipy.io.savemat(root / f"pascal-context/trainval/{name}.mat", {"LabelMap": labels}, do_compression=True)
        saliency = (255 / (1 + np.exp(-2 * smooth(1, 30)[..., 0]))).astype(np.uint8)
        Image.fromarray(saliency).save(root / f"sal_distill/{name}.png")
        normals = smooth(3, 20)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        Image.fromarray((127.5 * (normals + 1)).astype(np.uint8)).save(root / f"normals_distill/{name}.png")
        names = list(PART_CLASS)
        parts = np.zeros((1, len(names)), dtype=[("part_name", object), ("mask", object)])
        whole = np.zeros((HEIGHT, WIDTH), np.uint8)
        for j, part in enumerate(names):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            centre = (int(rng.integers(150, 350)), int(rng.integers(60, 320)))
            cv2.ellipse(mask, centre, (12, 25), float(rng.uniform(0, 180)), 0, 360, 1, -1)
            parts[0, j] = (part, mask)
            whole |= mask
        fields = [("class", object), ("class_ind", object), ("mask", object), ("parts", object)]
        objects = np.zeros((1, 1), dtype=fields)
        objects[0, 0] = ("person", 15.0, whole, parts)
        anno = {"anno": {"imname": name, "objects": objects}}
        scipy.io.savemat(root / f"human_parts/{name}.mat", anno, do_compression=True)
    (root / "ImageSets/Context/train.txt").write_text("\n".join(ids))
    (root / "ImageSets/Context/val.txt").write_text(ids[0])
    return ids


def load(root, name, valid):
    """The picture and the labels of a sample, as the files hold them."""
    image = np.array(Image.open(root / f"JPEGImages/{name}.jpg").convert("RGB")).astype(np.float32)
    semseg = np.array(Image.open(root / f"semseg/VOC12/{name}.png")).astype(np.float32)
    human = np.zeros((HEIGHT, WIDTH), np.float32)
    objects = scipy.io.loadmat(root / f"human_parts/{name}.mat")["anno"][0, 0]["objects"]
    for i in range(objects.shape[1]):
        if objects[0, i]["class_ind"][0, 0] != 15:
            continue
        parts = objects[0, i]["parts"]
        for j in range(parts.shape[1]):
            human[parts[0, j]["mask"] > 0] = PART_CLASS[parts[0, j]["part_name"][0]]
    label_map = scipy.io.loadmat(root / f"pascal-context/trainval/{name}.mat")["LabelMap"]
    saliency = np.array(Image.open(root / f"sal_distill/{name}.png")).astype(np.float32) / 255
    saliency = (saliency > 0.5).astype(np.float32)
    normals = 2 * np.array(Image.open(root / f"normals_distill/{name}.png")).astype(np.float32) / 255 - 1
    normals *= np.isin(label_map, valid)[..., None]
    edges = cv2.Laplacian(label_map.astype(np.float64), cv2.CV_64F)
    edges = thin(np.abs(edges) > 0).astype(np.float32)
    return image, [semseg, human, saliency, edges], normals


def transform(image, maps, normals, side):
    """Flip, rotate and scale, resize, mark, normalise."""
    if random.random() < 0.5:
        image, normals = cv2.flip(image, 1), cv2.flip(normals, 1)
        maps = [cv2.flip(m, 1) for m in maps]
        normals[..., 0] *= -1
    degrees, scale = random.uniform(-20, 20), random.uniform(0.75, 1.25)
    matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, scale)
    image = cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
    normals = cv2.warpAffine(normals, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
    maps = [cv2.warpAffine(m, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_NEAREST) for m in maps]
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y = normals[..., 0].copy(), normals[..., 1].copy()
    normals[..., 0], normals[..., 1] = c * x - s * y, s * x + c * y
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    normals = cv2.resize(normals, (side, side), interpolation=cv2.INTER_CUBIC)
    maps = [cv2.resize(m, (side, side), interpolation=cv2.INTER_NEAREST) for m in maps]
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    normals = np.where(length > 0, normals / np.maximum(length, 1e-12), 255)
    if maps[1].max() == 0:
        maps[1][:] = 255
    image = (image.clip(0, 255).round() / 255 - MEAN) / STD
    planes = [np.ascontiguousarray(a.transpose(2, 0, 1), np.float32) for a in (image, normals)]
    return planes + [np.ascontiguousarray(m[None], np.float32) for m in maps]


def python_side(root, ids, valid, samples, side):
    start = time.thread_time()
    for i in range(samples):
        transform(*load(root, ids[i % len(ids)], valid), side)
    return (time.thread_time() - start) * 1000 / samples


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=20, help="samples a round and side")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--binary", help="an example `loader_speed` that is already built")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    random.seed(0)
    binary = [args.binary] if args.binary else [
        "cargo", "run", "--quiet", "--release", "-p", "tadformer-data", "--example", "loader_speed", "--"]
    valid = valid_classes()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        ids = write_tree(root, 8)
        rust_command = [*binary, folder, str(args.samples), str(args.side)]
        python_side(root, ids, valid, 2, args.side)
        subprocess.run(rust_command, cwd=REPOSITORY, check=True, capture_output=True)
        times = {"rust": [], "python": []}
        for _ in range(args.rounds):
            done = subprocess.run(rust_command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
            times["rust"].append(float(done.stdout))
            times["python"].append(python_side(root, ids, valid, args.samples, args.side))
    rust, python = (statistics.median(times[side]) for side in ("rust", "python"))
    print(f"PASCAL-Context, {HEIGHT}x{WIDTH} JPEG and five labels to {args.side}x{args.side}, training pipeline,")
    print(f"medians of {args.rounds} rounds of {args.samples} samples, processor time of one core")
    print("| side | ms a sample | samples/s/core | ms, least to most |")
    print("| --- | ---: | ---: | ---: |")
    for side, median in (("rust", rust), ("python", python)):
        least, most = min(times[side]), max(times[side])
        print(f"| {side} | {median:.2f} | {1000 / median:.1f} | {least:.2f} to {most:.2f} |")
    ratios = sorted(p / r for r, p in zip(times["rust"], times["python"]))
    print(f"\nRatio python / rust: {statistics.median(ratios):.2f} (rounds: {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    # The allocator reads its settings when a process starts.
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR)
    main()
