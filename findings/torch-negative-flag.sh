#!/usr/bin/env bash
# torch 2.14.0: the bytes of a saved tensor can be those of its negative, and safetensors 0.8.0 drops the sign.
#
# `z.conj().imag` is a view of z's memory with the flag `neg`. torch.save writes the memory as it is and the flag as a seventh
# argument of `_rebuild_tensor_v2`, `{"neg": True}`; a reader that takes storage, offset, shape and strides alone gets every
# number with the other sign. safetensors.torch.save_file has no place for the flag: of a tensor whose view is contiguous it
# writes the memory, and load_file gives other numbers than were saved.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.14.0 safetensors==0.8.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import pickletools, struct, zipfile
import safetensors, torch
from safetensors.torch import load_file, save_file

print("torch", torch.__version__, "safetensors", safetensors.__version__)
z = torch.tensor([1 + 2j, 3 - 4j])
imag = z.conj().imag
torch.save({"imag": imag}, "imag.pth")
with zipfile.ZipFile("imag.pth") as archive:
    names = {name.split("/", 1)[1]: name for name in archive.namelist()}
    stored = struct.unpack("<4f", archive.read(names["data/0"]))
    words = [arg for _, arg, _ in pickletools.genops(archive.read(names["data.pkl"]))]
print("the tensor is", imag.tolist(), "and its storage", stored, "with the flag" if "neg" in words else "")
assert imag.tolist() == [-2.0, 4.0] and stored == (1.0, 2.0, 3.0, -4.0) and "neg" in words
assert torch.load("imag.pth")["imag"].tolist() == [-2.0, 4.0]

one = torch.tensor([[1 + 2j]]).conj().imag
save_file({"one": one}, "one.safetensors")
again = load_file("one.safetensors")["one"]
print("safetensors was given", one.tolist(), "and gives", again.tolist())
assert one.tolist() == [[-2.0]] and again.tolist() == [[2.0]]
PY
