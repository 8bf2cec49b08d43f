"""Writes small files in the formats of torch.save, with CPython's own pickler and without PyTorch.

    python3 make_pickles.py FOLDER

The classes below only carry the module names that PyTorch's objects are pickled under. Needs NumPy for one scalar.
"""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np


def module(name):
    found = types.ModuleType(name)
    sys.modules[name] = found
    return found


torch, utils, _, yacs = (module(n) for n in ("torch", "torch._utils", "yacs", "yacs.config"))


def put(owner, name, value):
    value.__module__, value.__name__, value.__qualname__ = owner.__name__, name, name
    setattr(owner, name, value)
    return value


def function(name):
    return put(utils, name, types.FunctionType((lambda *args: None).__code__, {}, name))


rebuild_v2, rebuild_parameter = function("_rebuild_tensor_v2"), function("_rebuild_parameter")
CLASSES = {
    "<f4": "FloatStorage", "<f8": "DoubleStorage", "<f2": "HalfStorage", "bf16": "BFloat16Storage",
    "<i8": "LongStorage", "<i4": "IntStorage", "<i2": "ShortStorage", "|i1": "CharStorage", "|u1": "ByteStorage",
    "|b1": "BoolStorage",
}
for class_name in CLASSES.values():
    put(torch, class_name, type(class_name, (), {}))
CfgNode = put(yacs, "CfgNode", type("CfgNode", (dict,), {}))


class Storage:
    def __init__(self, data, kind):
        self.data, self.kind = data, kind
        self.numel = len(data) // (2 if kind == "bf16" else np.dtype(kind).itemsize)


class Tensor:
    def __init__(self, storage, offset, shape, stride):
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def __reduce_ex__(self, protocol):
        args = (self.storage, self.offset, self.shape, self.stride, False, OrderedDict())
        return rebuild_v2, args


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce_ex__(self, protocol):
        return rebuild_parameter, (self.tensor, True, OrderedDict())


def tensor(array, kind=None):
    array = np.array(array, order="C")
    strides = tuple(s // array.itemsize for s in array.strides)
    return Tensor(Storage(array.tobytes(), kind or array.dtype.str), 0, array.shape, strides)


def checkpoint():
    base = np.arange(24, dtype="<f4") / 8
    shared = Storage(base.tobytes(), "<f4")
    state = OrderedDict()
    state["module.whole"] = Tensor(shared, 0, (4, 6), (6, 1))
    state["module.transposed"] = Tensor(shared, 0, (6, 4), (1, 6))
    state["module.tail"] = Tensor(shared, 18, (6,), (1,))
    state["module.every_other"] = Tensor(shared, 1, (2, 3), (12, 2))
    state["module.scalar"] = tensor(np.float32(2.5))
    state["module.empty"] = Tensor(Storage(b"", "<f4"), 0, (0, 3), (3, 1))
    state["module.parameter"] = Parameter(tensor(np.array([1.5, -2.0], "<f4")))
    state["module.f16"] = tensor(np.array([1.0, -0.5, 65504.0], "<f2"))
    state["module.bf16"] = tensor(np.array([0x3F80, 0xC040], "<u2"), "bf16")
    state["module.f64"] = tensor(np.array([0.1], "<f8"))
    state["module.i64"] = tensor(np.array([-1, 1 << 20], "<i8"))
    state["module.i32"] = tensor(np.array([-7], "<i4"))
    state["module.i16"] = tensor(np.array([-300], "<i2"))
    state["module.i8"] = tensor(np.array([-5], "|i1"))
    state["module.u8"] = tensor(np.array([200], "|u1"))
    state["module.bool"] = tensor(np.array([True, False], "|b1"))
    state["module.note"] = "no tensor"
    ema = OrderedDict(weight=tensor(np.array([9.0], "<f4")))
    config = CfgNode(MODEL=CfgNode(NAME="swin", DEPTHS=[2, 2], DROP=0.25), TAGS={"a"}, LONG=1 << 70)
    optimizer = {"state": {3: {"step": 7, "exp_avg": tensor(np.array([0.5], "<f4"))}}, "param_groups": [{"params": [0, 3]}]}
    return {
        "model": state, "model_ema": ema, "config": config, "optimizer": optimizer, "epoch": 4,
        "best": np.float64(0.625), "count": np.int32(-3), "raw": b"\x00\xff", "flag": True, "nothing": None,
    }


def dump(value, protocol, keys, legacy):
    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, Storage):
                return None
            key = keys.setdefault(id(item), (str(len(keys)), item))[0]
            reference = ("storage", getattr(torch, CLASSES[item.kind]), key, "cpu", item.numel)
            return reference + (None,) if legacy else reference

    out = io.BytesIO()
    Pickler(out, protocol).dump(value)
    return out.getvalue()


def write_zip(path, protocol, compression):
    keys = {}
    data = dump(checkpoint(), protocol, keys, False)
    with zipfile.ZipFile(path, "w", compression) as archive:
        entries = [("data.pkl", data), ("byteorder", b"little")]
        entries += [(f"data/{key}", item.data) for key, item in keys.values()]
        for name, content in entries + [("version", b"3\n")]:
            archive.writestr(zipfile.ZipInfo(f"{path.stem}/{name}"), content, compression)


def write_legacy(path):
    keys = {}
    body = dump(checkpoint(), 2, keys, True)
    sizes = {"short": 2, "int": 4, "long": 4}
    with open(path, "wb") as out:
        out.write(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
        out.write(pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}, 2))
        out.write(body + pickle.dumps(sorted(key for key, _ in keys.values()), 2))
        for _, item in sorted(keys.values(), key=lambda pair: pair[0]):
            out.write(struct.pack("<q", item.numel) + item.data)


folder = Path(sys.argv[1])
for protocol in (2, 3, 4, 5):
    write_zip(folder / f"protocol{protocol}.pth", protocol, zipfile.ZIP_STORED)
write_zip(folder / "deflated.pth", 2, zipfile.ZIP_DEFLATED)
write_legacy(folder / "legacy.pth")
