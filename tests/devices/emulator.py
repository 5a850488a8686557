"""An accelerator without one: tensors that say they are on `cuda:0` and refuse what CUDA refuses.

    with emulated() as gpu:
        x = torch.rand(3).to("cuda")        # x.device is cuda:0
        x + torch.ones(3)                   # RuntimeError: two devices
        gpu.moves                           # what crossed the border, with bytes and place
    with emulated(cards=2):                 # cuda:0 and cuda:1, told apart
    with emulated(kind="mps"):              # an Apple GPU, which has no float64

A tensor "on the device" is a tensor of the CPU in a subclass that reports another device. A
function mode sees every call into torch, from our code and from diffusers alike. It checks the call
as CUDA would, runs it on the CPU, and marks the result. So the numbers are those of the CPU in
every bit, but for random numbers drawn on the device: these differ, as they do on a real one.

With `memory` it refuses what would exceed `Device.total`. What it cannot see: the arithmetic of a
real card (TF32, the order of sums), its workspaces, and kernels of a library that reads memory
without torch.
"""

import contextlib
import math
import os
import sys
import weakref
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
HERE = str(Path(__file__).resolve())


class Move(NamedTuple):
    "One crossing of the border."

    kind: str  # "to device", "to host", or "number": one that Python asked for
    bytes: int
    call: str  # name of the torch function
    where: str  # file:line of the nearest caller outside of torch and this file


@dataclass
class Device:
    "The emulated accelerator: what crossed its border, and what it holds."

    name: str = "cuda:0"
    total: int = 24 * 2**30  # bytes that it claims to have
    moves: list = field(default_factory=list)
    refusals: list = field(default_factory=list)
    used: int = 0
    peak: int = 0
    counting: bool = False  # of memory: costs time, see `emulated`
    kind: str = "cuda"  # or "mps"
    cards: int = 1
    real: bool = False  # a card: nothing is counted or emulated

    def hold(self, t: torch.Tensor) -> None:
        "Count the memory behind `t` until it is freed."
        s = t.untyped_storage()
        if getattr(s, "counted", False):
            return
        n = s.nbytes()
        if self.used + n > self.total:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {n} bytes. GPU 0")
        s.counted = True
        self.used += n
        self.peak = max(self.peak, self.used)
        weakref.finalize(s, self.free, n)

    def free(self, n: int) -> None:
        "Give `n` bytes back."
        self.used -= n


class Emulated(torch.Tensor):
    "A tensor on the emulated device. Every use of it outside of `emulated()` is refused."

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        mode = EmulatedMode.active
        if mode is None:
            raise RuntimeError(
                f"{name_of(func)} on a tensor of an emulated device that is switched off"
            )
        return mode.__torch_function__(func, types, args, kwargs)

    device = property(lambda self: place_of(self))
    is_cuda = property(lambda self: place_of(self).type == "cuda")
    is_cpu = property(lambda self: False)


class Generator(torch.Generator):
    "A generator that may be on the device; there it gives other numbers, as on a real one."

    def __new__(cls, device="cpu"):
        g = super().__new__(cls)
        g.place = normal(device)
        return g

    device = property(lambda self: self.place)

    def manual_seed(self, seed):
        return super().manual_seed(seed if self.place == CPU else seed ^ 0x5EED5EED)


class _AnyGenerator(type):
    "Makes `isinstance(g, torch.Generator)` true for real generators, while the name makes ours."

    def __instancecheck__(cls, g):
        return isinstance(g, REAL_GENERATOR)


REAL_GENERATOR = torch.Generator


class GeneratorName(metaclass=_AnyGenerator):
    "What `torch.Generator` is while the emulator is on."

    def __new__(cls, device="cpu"):
        return Generator(device)


def normal(device) -> torch.device:
    "A device in full: `cuda` is `cuda:0`, a number is a card."
    if isinstance(device, int):
        device = f"cuda:{device}"
    d = torch.device(device)
    return torch.device(d.type, 0) if d.type in ("cuda", "mps") and d.index is None else d


def place_of(t: torch.Tensor) -> torch.device:
    "Where a tensor is."
    return t.__dict__.get("place", EmulatedMode.place) if isinstance(t, Emulated) else CPU


WIDE = (torch.float64, torch.complex128)  # what an Apple GPU does not have


def name_of(func) -> str:
    "A short name of a torch function."
    name = getattr(func, "__name__", str(func))
    if name in ("__get__", "__set__", "__delete__"):
        name = f"{getattr(func.__self__, '__name__', '?')}.{name}"
    return name


# ---------------------------------------------------------------- what CUDA allows across devices
_POINTWISE = """add sub mul div true_divide truediv floor_divide floordiv remainder mod fmod pow
float_power maximum minimum fmax fmin atan2 arctan2 hypot copysign nextafter logaddexp logaddexp2 eq
ne lt le gt ge greater greater_equal less less_equal not_equal logical_and logical_or logical_xor
bitwise_and bitwise_or bitwise_xor and or xor multiply divide subtract where xlogy masked_fill
index_fill fill rsub lshift rshift ldexp""".split()
SCALARS = {
    *_POINTWISE,
    *(p + n for n in _POINTWISE for p in "ri"),
}  # a CPU tensor of no dimension may join
SHAPE_ONLY = {
    "expand_as",
    "view_as",
    "reshape_as",
    "broadcast_tensors",
    "type_as",
    "result_type",
    "is_same_size",
    "_has_compatible_shallow_copy_type",
    "copy_",
    "resize_as_",
    "_parse_to",
}
SYNCING = {
    "item",
    "__float__",
    "__int__",
    "__bool__",
    "__index__",
    "__complex__",
    "__format__",
    "is_nonzero",
    "equal",
    "allclose",
    "nonzero",
    "argwhere",
    "masked_select",
    "unique",
    "unique_consecutive",
    "bincount",
    "__contains__",
}  # the host waits for a number
HOST_ONLY = {
    "numpy",
    "__array__",
    "histogram",
    "histogramdd",
    "map_",
    "pin_memory",
    "__dlpack__",
    "data_ptr",
}
RANDOM = {
    "rand",
    "randn",
    "randint",
    "randperm",
    "normal",
    "rand_like",
    "randn_like",
    "randint_like",
    "normal_",
    "uniform_",
    "random_",
    "bernoulli",
    "bernoulli_",
    "exponential_",
    "multinomial",
    "trunc_normal_",
    "kaiming_uniform_",
    "xavier_uniform_",
    "poisson",
    "dropout",
    "log_normal_",
    "cauchy_",
    "geometric_",
    "randn.generator",
}


def tensors_in(values, found: list) -> list:
    "All tensors in nested lists, tuples and dicts."
    for v in values:
        if isinstance(v, torch.Tensor):
            found.append(v)
        elif isinstance(v, (list, tuple)):
            tensors_in(v, found)
        elif isinstance(v, dict):
            tensors_in(v.values(), found)
    return found


def caller() -> str:
    "file:line of the nearest frame that belongs to neither torch nor this file."
    f = sys._getframe(2)
    while f is not None:
        name = f.f_code.co_filename
        if "/torch/" not in name and name != HERE and "<" not in name:
            return f"{Path(name).name}:{f.f_lineno}"
        f = f.f_back
    return "?"


class EmulatedMode(TorchFunctionMode):
    "Sees every call into torch, checks it as CUDA does, runs it on the CPU, marks the result."

    active = None
    place = torch.device("cuda", 0)

    def __init__(self, device: Device):
        super().__init__()
        self.gpu = device
        self.place = torch.device(device.kind, 0)
        self.generator = REAL_GENERATOR().manual_seed(0x5EED)
        self.special = {
            torch.Tensor.to: self.to,
            torch.Tensor.cpu: self.cpu,
            torch.Tensor.cuda: self.cuda,
            torch.Tensor.copy_: self.copy_,
            torch.Tensor.__getitem__: self.getitem,
            torch.Tensor.__setitem__: self.setitem,
            torch.Tensor.index_put_: self.index_put,
            torch.Tensor.index_put: self.index_put,
            torch.index_put: self.index_put,
            torch.tensor: self.tensor,
            torch.as_tensor: self.tensor,
            torch.asarray: self.tensor,
            torch.Tensor.tolist: self.tolist,
            torch.Tensor.type_as: self.type_as,
            torch.Tensor.__deepcopy__: self.deepcopy,
            torch.Tensor.__reduce_ex__: self.reduce,
            torch.Tensor.__format__: self.format,
            torch.Tensor.__repr__: self.repr,
            torch.Tensor.get_device: self.get_device,
            torch.Tensor.device.__get__: self.get_place,
            torch.Tensor.is_cuda.__get__: self.get_cuda,
            torch.Tensor.is_cpu.__get__: self.get_cpu,
            torch.Tensor.data.__set__: self.set_data,
            torch._has_compatible_shallow_copy_type: self.compatible,
        }

    # ------------------------------------------------------------ bookkeeping
    def moved(self, kind: str, n: int, call: str) -> None:
        self.gpu.moves.append(Move(kind, n, call, caller()))

    def refuse(self, error: type, message: str):
        where = caller()
        self.gpu.refusals.append(f"{message} [{where}]")
        raise error(f"{message} [emulated device, asked at {where}]")

    def mark(self, out, place=None):
        "The result as a tensor of the device; containers keep their type."
        if isinstance(out, torch.Tensor):
            if isinstance(out, Emulated):
                return out
            if self.gpu.kind == "mps" and out.dtype in WIDE:
                self.refuse(
                    TypeError,
                    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't "
                    f"support float64. Please use float32 instead ({out.dtype})",
                )
            out = out.as_subclass(Emulated)
            out.place = place or self.place
            if self.gpu.counting:
                self.gpu.hold(out)
            return out
        if isinstance(out, (list, tuple)) and any(
            isinstance(v, (torch.Tensor, list, tuple)) for v in out
        ):
            values = [self.mark(v, place) for v in out]
            if hasattr(out, "_fields"):
                return type(out)(*values)
            return type(out)(values)
        return out

    # ------------------------------------------------------------ the general case
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            special = self.special.get(func)
            if special is not None:
                return special(func, args, kwargs)
            return self.run(func, args, kwargs)

    def run(self, func, args, kwargs):
        "Check, compute, mark."
        found = tensors_in(args, [])
        if kwargs:
            tensors_in(kwargs.values(), found)
        here = any(isinstance(t, Emulated) for t in found)
        name = getattr(func, "__name__", "")
        wanted = kwargs.get("device")
        if wanted is not None:
            wanted = self.known(wanted)
            if wanted.type == "meta":
                return func(*args, **kwargs)
            kwargs = kwargs | {"device": CPU}
        if here:
            self.check(name, func, args, kwargs, found)
        on_device = here if wanted is None else wanted != CPU
        place = (
            wanted
            if wanted is not None
            else next((place_of(t) for t in found if isinstance(t, Emulated)), self.place)
        )
        if name in RANDOM or "generator" in kwargs:
            kwargs = self.drawn(name, kwargs, on_device)
        if on_device and not here and name == "full" and tensors_in(args, []):
            self.moved("to device", 8, name)
        if here and wanted == CPU and not name.endswith("_like") and not name.startswith("new_"):
            self.moved("to host", found[0].nbytes, name)
        out = func(*args, **kwargs)
        return self.mark(out, place) if on_device else unmark(out)

    def check(self, name: str, func, args, kwargs, found: list) -> None:
        "Refuse what CUDA refuses; note where the host waits for the device."
        if name in HOST_ONLY:
            self.refuse(
                TypeError,
                f"can't convert {self.place} device type tensor to numpy ({name_of(func)}): "
                "use Tensor.cpu() to copy the tensor to host memory first",
            )
        if name in SYNCING:
            self.moved("number", 8 if name != "__bool__" else 1, name)
        if name in SHAPE_ONLY or name == "__get__":
            return
        plain = [t for t in found if not isinstance(t, Emulated)]
        if len({place_of(t) for t in found if isinstance(t, Emulated)}) > 1:
            self.mixed(name, found)
        if not plain:
            return
        inplace = (name.endswith("_") and not name.endswith("__")) or (
            name.startswith("__i") and name[3:-2] in SCALARS
        )
        out = kwargs.get("out")
        targets = ([args[0]] if inplace and args else []) + (
            [] if out is None else tensors_in([out], [])
        )
        scalars = name.strip("_") in SCALARS and all(t.dim() == 0 for t in plain)
        if not scalars or any(not isinstance(t, Emulated) for t in targets):
            self.mixed(name, found)

    def mixed(self, name: str, found: list):
        shapes = ", ".join(f"{tuple(t.shape)} on {place_of(t)}" for t in found)
        first, second = sorted({str(place_of(t)) for t in found}, reverse=True)[:2]
        self.refuse(
            RuntimeError,
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{first} and {second}! ({name}: {shapes})",
        )

    def known(self, device) -> torch.device:
        "The device in full. Refuses one that is not there."
        d = normal(device)
        there = d.type == self.gpu.kind and d.index < self.gpu.cards
        if d.type != "cpu" and d.type != "meta" and not there:
            self.refuse(
                RuntimeError,
                f"invalid device ordinal or type: {device}; there are cpu and {self.place} "
                f"({self.gpu.cards} in all)",
            )
        return d

    def drawn(self, name: str, kwargs: dict, on_device: bool) -> dict:
        "The generator must be where the tensor is, and the device has numbers of its own."
        g = kwargs.get("generator")
        if g is not None and (g.device.type != "cpu") != on_device:
            kind = self.gpu.kind if on_device else "cpu"
            self.refuse(
                RuntimeError,
                f"Expected a '{kind}' device type for generator, found '{g.device.type}' ({name})",
            )
        if (
            g is None
            and on_device
            and "generator" not in kwargs
            and name not in ("dropout", "multinomial", "poisson")
        ):
            if not name.endswith("_like"):
                kwargs = kwargs | {"generator": self.generator}
        return kwargs

    # ------------------------------------------------------------ ways across the border
    def across(
        self, t: torch.Tensor, out: torch.Tensor, target: torch.device, call: str
    ) -> torch.Tensor:
        "`out`, computed from `t`, at `target`: a copy where that is another device."
        if place_of(t) == target:
            return out if target == CPU else self.mark(out, target)
        if out.untyped_storage().data_ptr() == t.untyped_storage().data_ptr():
            out = out.clone()
        self.moved("to host" if target == CPU else "to device", out.nbytes, call)
        return unmark(out) if target == CPU else self.mark(unmark(out), target)

    def to(self, func, args, kwargs):
        t, target, rest, kw = args[0], place_of(args[0]), [], dict(kwargs)
        for a in args[1:]:
            if isinstance(a, torch.Tensor):
                target = place_of(a)
            elif isinstance(a, (str, torch.device)) or (
                isinstance(a, int) and not isinstance(a, bool)
            ):
                target, a = self.known(a), CPU
            rest.append(a)
        if kw.get("device") is not None:
            target, kw["device"] = self.known(kw["device"]), CPU
        if target.type == "meta":
            return func(*args, **kwargs)
        if isinstance(kw.get("other"), torch.Tensor):
            target = place_of(kw["other"])
        return self.across(t, func(t, *rest, **kw), target, "to")

    def cpu(self, func, args, kwargs):
        return self.across(args[0], func(*args, **kwargs), CPU, "cpu")

    def cuda(self, func, args, kwargs):
        wanted = args[1] if len(args) > 1 else kwargs.get("device")
        target = self.known("cuda" if wanted is None else wanted)
        return self.across(args[0], args[0].contiguous(), target, "cuda")

    def type_as(self, func, args, kwargs):
        return self.across(args[0], func(*args, **kwargs), place_of(args[1]), "type_as")

    def copy_(self, func, args, kwargs):
        to, src = args[0], args[1] if len(args) > 1 else kwargs["src"]
        if place_of(to) != place_of(src):
            kind = "to host" if place_of(to) == CPU else "to device"
            self.moved(kind, src.numel() * src.element_size(), "copy_")
        return func(*args, **kwargs)

    def tolist(self, func, args, kwargs):
        if isinstance(args[0], Emulated):
            self.moved("number" if args[0].numel() == 1 else "to host", args[0].nbytes, "tolist")
        return func(*args, **kwargs)

    def tensor(self, func, args, kwargs):
        "torch.tensor, as_tensor, asarray: the data's device, unless another is asked for."
        data = args[0] if args else kwargs.get("data")
        wanted, kw = kwargs.get("device"), dict(kwargs)
        if wanted is not None:
            wanted, kw["device"] = self.known(wanted), CPU
        if isinstance(data, torch.Tensor):
            target = place_of(data) if wanted is None else wanted
            out = func(*args, **kw)
            if func is torch.tensor and target == place_of(data):
                return self.mark(out, target) if target != CPU else out
            return self.across(data, out, target, func.__name__)
        inner = tensors_in([data], [])
        for t in inner:
            if isinstance(t, Emulated):
                self.moved("number", t.nbytes, func.__name__)
        out = unmark(func(*args, **kw))
        if wanted is None or wanted == CPU:
            return out
        self.moved("to device", out.nbytes, func.__name__)
        return self.mark(out, wanted)

    # ------------------------------------------------------------ indices
    def indices(self, t: torch.Tensor, index, call: str) -> bool:
        "Check an index of `t`. Returns whether it gathers (tensors, lists) rather than cuts."
        parts = index if isinstance(index, tuple) else (index,)
        gathers = False
        for i in parts:
            if isinstance(i, torch.Tensor):
                if i.dim() == 0 and i.dtype != torch.bool:
                    if isinstance(i, Emulated):
                        self.moved("number", 8, call)
                    continue
                gathers = True
                if isinstance(i, Emulated) and not isinstance(t, Emulated):
                    self.refuse(
                        RuntimeError,
                        "indices should be on the same device as the indexed tensor (cpu)",
                    )
                if isinstance(t, Emulated) and not isinstance(i, Emulated):
                    self.moved("to device", i.nbytes, call)
                if isinstance(t, Emulated) and i.dtype in (torch.bool, torch.uint8):
                    self.moved("number", 8, call)
            elif (
                isinstance(i, (list, range))
                or type(i).__module__ == "numpy"
                and getattr(i, "ndim", 0)
            ):
                gathers = True
                if isinstance(t, Emulated):
                    self.moved("to device", 8 * len(i), call)
        return gathers

    def getitem(self, func, args, kwargs):
        t, index = args
        self.indices(t, index, "getitem")
        out = func(t, index)
        return self.mark(out, place_of(t)) if isinstance(t, Emulated) else out

    def setitem(self, func, args, kwargs):
        t, index, value = args
        gathers = self.indices(t, index, "setitem")
        if isinstance(value, torch.Tensor) and place_of(value) != place_of(t):
            if gathers and value.dim():
                self.mixed("index_put_", [t, value])
            self.moved("to host" if place_of(t) == CPU else "to device", value.nbytes, "setitem")
        return func(t, index, value)

    def index_put(self, func, args, kwargs):
        t, index, value = (*args, *[kwargs[k] for k in ("indices", "values") if k in kwargs])[:3]
        self.indices(t, tuple(index), "index_put")
        if place_of(value) != place_of(t) and (value.dim() or isinstance(value, Emulated)):
            self.mixed("index_put_", [t, value])
        out = func(*args, **kwargs)
        return self.mark(out, place_of(t)) if isinstance(t, Emulated) else out

    # ------------------------------------------------------------ what a tensor says about itself
    def get_place(self, func, args, kwargs):
        return place_of(args[0])

    def get_cuda(self, func, args, kwargs):
        return place_of(args[0]).type == "cuda"

    def get_cpu(self, func, args, kwargs):
        return not isinstance(args[0], Emulated)

    def get_device(self, func, args, kwargs):
        return place_of(args[0]).index if isinstance(args[0], Emulated) else -1

    def set_data(self, func, args, kwargs):
        if place_of(args[0]) != place_of(args[1]):
            self.refuse(
                RuntimeError,
                "Attempted to call `variable.set_data(tensor)` with an incompatible tensor type",
            )
        return func(*args)

    def compatible(self, func, args, kwargs):
        return place_of(args[0]) == place_of(args[1]) and func(*args)

    def deepcopy(self, func, args, kwargs):
        t, memo = args
        if not isinstance(t, Emulated):
            return func(t, memo)
        if id(t) not in memo:
            copy = self.mark(unmark(t.detach().clone()), place_of(t))
            if isinstance(t, torch.nn.Parameter):
                copy.requires_grad_(t.requires_grad)._is_param = True
            memo[id(t)] = copy
        return memo[id(t)]

    def reduce(self, func, args, kwargs):
        t = args[0]
        if not isinstance(t, Emulated):
            return func(*args)
        self.moved("to host", t.nbytes, "pickle")
        return func(unmark(t.detach()), *args[1:])

    def format(self, func, args, kwargs):
        t, spec = args
        if isinstance(t, Emulated):
            self.moved("number", t.element_size(), "format")
        return func(unmark(t.detach()), spec)

    def repr(self, func, args, kwargs):
        t = args[0]
        return (
            func(unmark(t.detach()))[:-1] + f", device='{place_of(t)}')"
            if isinstance(t, Emulated)
            else func(*args, **kwargs)
        )


def unmark(out):
    "A result as plain tensors of the CPU."
    if isinstance(out, Emulated):
        return out.as_subclass(torch.Tensor)
    if isinstance(out, (list, tuple)) and any(isinstance(v, Emulated) for v in out):
        values = [unmark(v) for v in out]
        return type(out)(*values) if hasattr(out, "_fields") else type(out)(values)
    return out


# ---------------------------------------------------------------- switching it on
class _Properties(NamedTuple):
    "What `torch.cuda.get_device_properties` gives."

    name: str
    total_memory: int
    major: int = 8
    minor: int = 9
    multi_processor_count: int = 128


def _load(real, mode: EmulatedMode):
    "torch.load that brings tensors to the emulated device where `map_location` says so."

    def move(v, place):
        if isinstance(v, torch.Tensor):
            return v.to(place)
        if isinstance(v, dict):
            return {k: move(w, place) for k, w in v.items()}
        if isinstance(v, (list, tuple)):
            return type(v)(move(w, place) for w in v)
        return v

    def load(f, map_location=None, **kw):
        away = (
            map_location is not None and not callable(map_location) and normal(map_location) != CPU
        )
        out = real(f, map_location="cpu" if away else map_location, **kw)
        return move(out, normal(map_location)) if away else out

    return load


def _cuda_patches(gpu: Device) -> dict:
    "torch.cuda as a program with one card finds it."

    def reset(device=None):
        gpu.peak = gpu.used

    return {
        "is_available": lambda: True,
        "device_count": lambda: gpu.cards,
        "current_device": lambda: 0,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "get_device_name": lambda device=None: "emulated",
        "get_device_properties": lambda device=None: _Properties("emulated", gpu.total),
        "get_device_capability": lambda device=None: (8, 9),
        "mem_get_info": lambda device=None: (gpu.total - gpu.used, gpu.total),
        "memory_allocated": lambda device=None: gpu.used,
        "memory_reserved": lambda device=None: gpu.used,
        "max_memory_allocated": lambda device=None: gpu.peak,
        "max_memory_reserved": lambda device=None: gpu.peak,
        "reset_peak_memory_stats": reset,
        "reset_max_memory_allocated": reset,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda *a, **k: True,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "set_device": lambda device: None,
    }


def real_card() -> bool:
    "Whether the tests shall run on the card of this machine: VISIONXL_CARD=1 pytest tests/devices."
    return os.environ.get("VISIONXL_CARD") == "1" and torch.cuda.is_available()


@contextlib.contextmanager
def emulated(memory: bool = False, kind: str = "cuda", cards: int = 1):
    """Switch the emulator on; with `memory` it counts what the device holds. Gives the `Device`.

    `kind` is "cuda", with so many `cards`, or "mps", which refuses float64.

    With VISIONXL_CARD=1 and a card nothing is emulated: the card itself refuses what is wrong. An
    Apple GPU, or more cards than one, are emulated there too.
    """
    if real_card() and kind == "cuda" and cards == 1:
        yield Device(name=torch.cuda.get_device_name(), real=True)
        return
    gpu = Device(name=f"{kind}:0", counting=memory, kind=kind, cards=cards)
    mode = EmulatedMode(gpu)
    with contextlib.ExitStack() as stack:
        for name, f in _cuda_patches(gpu).items() if kind == "cuda" else ():
            stack.enter_context(mock.patch.object(torch.cuda, name, f, create=True))
        if kind == "mps":
            there = mock.patch.object(torch.backends.mps, "is_available", lambda: True)
            stack.enter_context(there)
        stack.enter_context(mock.patch.object(torch, "Generator", GeneratorName))
        stack.enter_context(mock.patch.object(torch, "load", _load(torch.load, mode)))
        stack.enter_context(mock.patch.object(EmulatedMode, "active", mode))
        stack.enter_context(mode)
        yield gpu


def moves_so_far() -> list:
    "What has crossed the border; nothing while the emulator is off."
    return [] if EmulatedMode.active is None else EmulatedMode.active.gpu.moves


def summary(moves: list) -> dict:
    "{(kind, place in the code): (times, bytes)}, the largest first."
    times, size = Counter(), Counter()
    for m in moves:
        key = (m.kind, m.where, m.call)
        times[key] += 1
        size[key] += m.bytes
    return {k: (times[k], n) for k, n in size.most_common()}


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    "Largest absolute difference of two results, wherever they are; infinite for NaN."
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    d = (a - b).abs().max().item() if a.numel() else 0.0
    return math.inf if math.isnan(d) else d
