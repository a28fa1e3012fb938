"""One strategy for each row of the CARRY table: a random legal node at a site."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from steps import Shape, Site, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evaluation import Array


_SPATIAL = 2


def _integers(values: Sequence[int]) -> Array:
    return np.asarray(values, dtype=np.int64)


def _listed(
    site: Site, name: str, values: Sequence[int], since: int
) -> tuple[dict[str, Any], tuple[Array, ...]]:
    """A list of integers as an attribute, or as an input from opset `since` on."""
    if site.opset >= since:
        return {}, (_integers(values),)
    return {name: list(values)}, ()


# -- nothing changes --------------------------------------------------------------------------


def identity(site: Site) -> Step:
    return Step("Identity", axis=site.axis)


def dropout(site: Site) -> Step:
    if site.opset < 12:
        return Step("Dropout", {"ratio": 0.25}, axis=site.axis)
    parameters = site.dice.choose([(), (np.float32(0.5),), (np.float32(0.5), np.bool_(False))])  # noqa: FBT003
    return Step("Dropout", parameters=tuple(np.asarray(p) for p in parameters), axis=site.axis)


# -- shapes -----------------------------------------------------------------------------------


def transpose(site: Site) -> Step:
    if site.dice.chance(0.2):
        return Step("Transpose", axis=site.rank - 1 - site.axis)
    perm = site.dice.shuffled(site.rank)
    return Step("Transpose", {"perm": perm}, axis=perm.index(site.axis))


def reshape(site: Site) -> Step:
    target, axis, down = site.dice.choose([_merged, _widened, _split, _joined])(site)
    dims = list(target)
    if site.dice.chance(0.3) and dims[0] == site.shape[0]:
        dims[0] = 0
    if site.dice.chance(0.3):
        dims[site.dice.integer(int(dims[0] == 0 and len(dims) > 1), len(dims) - 1)] = -1
    up = down or _split_up(site, target)
    return Step("Reshape", parameters=(_integers(dims),), axis=axis, up=up, down=down)


def _split_up(site: Site, target: Shape) -> bool:
    return len(target) == site.rank + 1 and target[: site.axis] == site.shape[: site.axis]


def _merged(site: Site) -> tuple[Shape, int, bool]:
    """Everything behind the channels becomes one axis."""
    left = site.shape[: site.axis + 1]
    return (*left, prod(site.shape[site.axis + 1 :])), site.axis, True


def _widened(site: Site) -> tuple[Shape, int, bool]:
    """An axis of one element is put in."""
    place = site.dice.integer(0, site.rank)
    target = (*site.shape[:place], 1, *site.shape[place:])
    return target, site.axis + (place <= site.axis), True


def _split(site: Site) -> tuple[Shape, int, bool]:
    """The channels are cut into groups."""
    groups = site.dice.divisor(site.channels)
    parts = (groups, site.channels // groups)
    target = site.shape[: site.axis] + parts + site.shape[site.axis + 1 :]
    axis = site.axis + (site.dice.integer(0, 1) if 1 not in parts else int(parts[0] == 1))
    return target, axis, 1 in parts


def _joined(site: Site) -> tuple[Shape, int, bool]:
    """The channels and the axis behind them become one."""
    site.need(site.axis + 1 < site.rank)
    behind = site.shape[site.axis + 1]
    target = (*site.shape[: site.axis], site.channels * behind, *site.shape[site.axis + 2 :])
    return target, site.axis, behind == 1


def flatten(site: Site) -> Step:
    at = site.dice.integer(0, site.rank)
    attributes = {} if at == 1 and site.dice.chance(0.5) else {"axis": at}
    axis = int(site.axis >= at)
    group = site.shape[at:] if axis else site.shape[:at]
    alone = prod(group) == site.channels
    return Step("Flatten", attributes, axis=axis, up=alone, down=axis == 1 or alone)


def squeeze(site: Site) -> Step:
    ones = [axis for axis in site.others if site.shape[axis] == 1]
    site.need(ones)
    every = site.channels > 1 and site.dice.chance(0.2)
    axes = ones if every else site.dice.some(ones, least=1)
    attributes, parameters = _listed(site, "axes", [site.signed(a) for a in axes], since=13)
    axis = site.axis - sum(a < site.axis for a in axes)
    if every:
        return Step("Squeeze", axis=axis)
    return Step("Squeeze", attributes, parameters, axis=axis)


def unsqueeze(site: Site) -> Step:
    rank = site.rank + site.dice.integer(1, 2)
    axes = site.dice.some(range(rank), least=rank - site.rank)[: rank - site.rank]
    site.need(len(axes) == rank - site.rank)
    stated = [a - rank if site.opset >= 13 and site.dice.chance(0.3) else a for a in axes]
    attributes, parameters = _listed(site, "axes", stated, since=13)
    left = [axis for axis in range(rank) if axis not in axes]
    return Step("Unsqueeze", attributes, parameters, axis=left[site.axis])


# -- parts ------------------------------------------------------------------------------------


def concat(site: Site) -> Step:
    axis = site.axis if site.dice.chance(0.4) else site.dice.integer(0, site.rank - 1)
    more = []
    for _ in range(site.dice.integer(1, 2)):
        shape = list(site.shape)
        shape[axis] = site.dice.integer(1, 3)
        more.append(tuple(shape))
    return Step("Concat", {"axis": axis}, more=tuple(more), axis=site.axis, down=axis == site.axis)


def split(site: Site) -> Step:
    axis = site.dice.integer(0, site.rank - 1)
    parts = site.dice.parts(site.shape[axis])
    attributes, parameters = _listed(site, "split", parts, since=13)
    if site.opset >= 18 and site.shape[axis] % len(parts) == 0 and site.dice.chance(0.5):
        attributes, parameters = {"num_outputs": len(parts)}, ()
    return Step(
        "Split",
        {**attributes, "axis": axis},
        parameters,
        outputs=len(parts),
        axis=site.axis,
        up=axis == site.axis or len(parts) == 1,
    )


def slice_(site: Site) -> Step:
    axes = site.dice.some(range(site.rank), least=1)
    steps = [site.dice.choose([1, 1, 2, -1, -2]) if site.opset >= 10 else 1 for _ in axes]
    bounds = [_bounds(site, site.shape[a], s) for a, s in zip(axes, steps, strict=True)]
    starts, ends = [b[0] for b in bounds], [b[1] for b in bounds]
    if site.opset < 10:
        return Step("Slice", {"axes": axes, "starts": starts, "ends": ends}, axis=site.axis)
    lists = [starts, ends, [site.signed(a) for a in axes], steps]
    if set(steps) == {1} and site.dice.chance(0.5):
        lists.pop()
        if axes == list(range(len(axes))):
            lists.pop()
    return Step("Slice", parameters=tuple(map(_integers, lists)), axis=site.axis)


def _bounds(site: Site, size: int, step: int) -> tuple[int, int]:
    """A start and an end between which something lies."""
    low = site.dice.integer(0, size - 1)
    high = site.dice.integer(low, size - 1)
    if step > 0:
        start = site.dice.choose([low, low - size])
        ends = [high + 1] + ([high + 1 - size] if high + 1 < size else [size + 5, (1 << 63) - 1])
        return start, site.dice.choose(ends)
    start = site.dice.choose([high, high - size] + ([size + 3] if high == size - 1 else []))
    ends = [low - 1, low - 1 - size] if low else [-size - 1, -(1 << 63), -(1 << 31)]
    return start, site.dice.choose(ends)


def gather(site: Site) -> Step:
    axis = site.dice.integer(0, site.rank - 1)
    site.need(site.shape[axis] > 0)
    size = site.shape[axis]
    shape = site.dice.choose([(), (1,), (3,), (2, 2)] if axis != site.axis else [(2,), (size,)])
    if axis == site.axis:
        order = site.dice.shuffled(size)[: shape[0]]
    else:
        order = [site.dice.integer(0, size - 1) for _ in range(prod(shape))]
    stated = [i - size if site.opset >= 11 and site.dice.chance(0.3) else i for i in order]
    indices = _integers(stated).reshape(shape if axis != site.axis else (len(order),))
    out_axis = site.axis + (indices.ndim - 1 if axis < site.axis else 0)
    return Step("Gather", {"axis": axis}, (indices,), axis=out_axis)


def pad(site: Site) -> Step:
    modes = ["constant", "constant", "reflect", "edge"] + ["wrap"] * (site.opset >= 19)
    mode = site.dice.choose(modes)
    pads = [_padding(site, axis, mode) for axis in range(site.rank)]
    value = site.dice.choose([0.0, 0.0, 0.5])
    fills = mode == "constant" and any(map(sum, pads))
    attributes: dict[str, Any] = {"mode": mode}
    parameters: tuple[Array | None, ...] = ()
    flat = [p[0] for p in pads] + [p[1] for p in pads]
    if site.opset < 11:
        attributes |= {"pads": flat, "value": value}
    else:
        parameters = (_integers(flat), np.asarray(value))
        if value == 0 and site.dice.chance(0.5):
            parameters = parameters[:1]
    on_channels = any(pads[site.axis])
    return Step(
        "Pad",
        attributes,
        parameters,
        axis=site.axis,
        shiftless=fills and value == 0,
        uniform=fills and value != 0,
        up=not on_channels,
    )


def _padding(site: Site, axis: int, mode: str) -> tuple[int, int]:
    if axis == site.axis and site.dice.chance(0.8):
        return 0, 0
    largest = {"constant": 2, "edge": 2}.get(mode, max(site.shape[axis] - 1, 0))
    largest = min(largest, 2)
    return site.dice.integer(0, largest), site.dice.integer(0, largest)


def depth_to_space(site: Site) -> Step:
    site.need(site.rank == 4 and site.axis == 1 and site.channels % 4 == 0)
    attributes: dict[str, Any] = {"blocksize": 2}
    if site.opset >= 11 and site.dice.chance(0.7):
        attributes["mode"] = site.dice.choose(["DCR", "CRD"])
    return Step("DepthToSpace", attributes, uniform_down=True)


def space_to_depth(site: Site) -> Step:
    site.need(site.rank == 4 and site.axis == 1)
    site.need(site.shape[2] % 2 == 0 and site.shape[3] % 2 == 0)
    return Step("SpaceToDepth", {"blocksize": 2}, uniform_up=True)


# -- pools and reductions ---------------------------------------------------------------------


def _window(site: Site, *, dilated: bool) -> dict[str, Any]:
    """The attributes of a pool that fits its input."""
    site.need(site.axis == 1 and site.rank >= 3)
    sizes = site.shape[_SPATIAL:]
    kernel = [site.dice.integer(1, min(3, size)) for size in sizes]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if site.dice.chance(0.5):
        attributes["strides"] = [site.dice.integer(1, 2) for _ in sizes]
    kind = site.dice.choose(["none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if kind == "pads":
        ends = [site.dice.integer(0, k - 1) for k in kernel]
        attributes["pads"] = [site.dice.integer(0, k - 1) for k in kernel] + ends
    elif kind != "none":
        attributes["auto_pad"] = kind
    elif dilated and site.dice.chance(0.3):
        fits = zip(sizes, kernel, strict=True)
        attributes["dilations"] = [2 if 2 * (k - 1) < size else 1 for size, k in fits]
    if site.opset >= 10 and kind in ("none", "pads") and site.dice.chance(0.3):
        attributes["ceil_mode"] = 1
    return attributes


def max_pool(site: Site) -> Step:
    return Step("MaxPool", _window(site, dilated=site.opset >= 10), positive=True)


def average_pool(site: Site) -> Step:
    attributes = _window(site, dilated=site.opset >= 19)
    padded = "pads" in attributes or attributes.get("auto_pad", "VALID") != "VALID"
    padded = padded or "ceil_mode" in attributes
    if site.dice.chance(0.5):
        attributes["count_include_pad"] = 1
        return Step("AveragePool", attributes, shiftless=padded)
    return Step("AveragePool", attributes)


def global_max_pool(site: Site) -> Step:
    site.need(site.axis == 1 and site.rank >= 3)
    return Step("GlobalMaxPool", positive=True)


def global_average_pool(site: Site) -> Step:
    site.need(site.axis == 1 and site.rank >= 3)
    return Step("GlobalAveragePool")


def lp_pool(site: Site) -> Step:
    attributes = _window(site, dilated=site.opset >= 18)
    if site.opset < 18:
        attributes.pop("ceil_mode", None)
    return Step("LpPool", attributes | _power(site), positive=True, shiftless=True)


def global_lp_pool(site: Site) -> Step:
    site.need(site.axis == 1 and site.rank >= 3)
    return Step("GlobalLpPool", _power(site), positive=True, shiftless=True)


def _power(site: Site) -> dict[str, Any]:
    """The p of a norm, 2 where nothing is said."""
    return {"p": site.dice.integer(1, 4)} if site.dice.chance(0.7) else {}


def _reduction(
    op_type: str, *, since: int, positive: bool = False, shiftless: bool = False
) -> Callable[[Site], Step]:
    def strategy(site: Site) -> Step:
        site.need(site.others)
        axes = site.dice.some(site.others, least=1)
        stated = [site.signed(a) for a in axes]
        attributes, parameters = _listed(site, "axes", stated, since=since)
        keeps = site.dice.choose([None, 0, 1])
        if keeps is not None:
            attributes["keepdims"] = keeps
        axis = site.axis if keeps != 0 else site.axis - sum(a < site.axis for a in axes)
        return Step(
            op_type, attributes, parameters, axis=axis, positive=positive, shiftless=shiftless
        )

    return strategy


# -- interpolation ----------------------------------------------------------------------------


def resize(site: Site) -> Step:
    site.need(site.opset >= 10 and site.rank == 4 and site.axis == 1)
    if site.opset == 10:
        mode = site.dice.choose(["nearest", "linear"])
        return Step("Resize", {"mode": mode}, (_scales(site),))
    attributes = _interpolation(site)
    if site.opset >= 18 and attributes["mode"] != "nearest" and site.dice.chance(0.5):
        attributes["antialias"] = 1
    nothing = np.zeros(0, dtype=np.float32)
    roi = None if site.opset >= 13 else nothing
    if site.dice.chance(0.5):
        return Step("Resize", attributes, (roi, _scales(site)))
    sizes = [*site.shape[:2], *(site.dice.integer(1, 2 * size) for size in site.shape[2:])]
    scales = None if site.opset >= 13 else nothing
    if site.opset >= 18 and site.dice.chance(0.5):
        return Step("Resize", attributes | {"axes": [2, 3]}, (roi, scales, _integers(sizes[2:])))
    return Step("Resize", attributes, (roi, scales, _integers(sizes)))


def _scales(site: Site) -> Array:
    factors = [site.dice.choose([0.5, 1.0, 1.5, 2.0]) for _ in site.shape[2:]]
    factors = [f if f * size >= 1 else 1.0 for f, size in zip(factors, site.shape[2:], strict=True)]
    return np.asarray([1.0, 1.0, *factors], dtype=np.float32)


def _interpolation(site: Site) -> dict[str, Any]:
    attributes: dict[str, Any] = {"mode": site.dice.choose(["nearest", "linear", "cubic"])}
    attributes["coordinate_transformation_mode"] = site.dice.choose(
        ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
    )
    if attributes["mode"] == "cubic" and site.dice.chance(0.5):
        attributes["exclude_outside"] = 1
    if attributes["mode"] == "nearest" and site.dice.chance(0.5):
        attributes["nearest_mode"] = site.dice.choose(["floor", "ceil", "round_prefer_ceil"])
    return attributes


def upsample(site: Site) -> Step:
    site.need(site.opset < 10 and site.rank == 4 and site.axis == 1)
    scales = [1.0, 1.0, *(float(site.dice.integer(1, 2)) for _ in range(2))]
    mode = site.dice.choose(["nearest", "linear"])
    if site.opset < 9:
        return Step("Upsample", {"mode": mode, "scales": scales})
    return Step("Upsample", {"mode": mode}, (np.asarray(scales, dtype=np.float32),))


# -- elementwise ------------------------------------------------------------------------------


def relu(site: Site) -> Step:
    return Step("Relu", axis=site.axis, positive=True, shiftless=True)


def abs_(site: Site) -> Step:
    return Step("Abs", axis=site.axis, positive=True, shiftless=True)


def leaky_relu(site: Site) -> Step:
    attributes = {} if site.dice.chance(0.3) else {"alpha": 0.25}
    return Step("LeakyRelu", attributes, axis=site.axis, positive=True, shiftless=True)


_BOUNDS: Sequence[tuple[float | None, float | None]] = [
    (None, None),
    (0.0, None),
    (None, 0.0),
    (0.0, np.inf),
    (-0.5, 0.75),
    (0.0, 0.5),
    (0.25, None),
]


def clip(site: Site) -> Step:
    """Infinite bounds let every affine pass, 0 a scale of one sign, others what is uniform."""
    low, high = site.dice.choose(_BOUNDS)
    attributes: dict[str, Any] = {}
    parameters: list[Array | None] = []
    if site.opset < 11:
        largest = float(np.finfo(np.float32).max)
        stated = (("min", low), ("max", high))
        attributes = {name: min(bound, largest) for name, bound in stated if bound is not None}
    else:
        parameters = [None if bound is None else np.asarray(bound) for bound in (low, high)]
        while parameters and parameters[-1] is None:
            parameters.pop()
    finite = [bound for bound in (low, high) if bound is not None and np.isfinite(bound)]
    halved = finite == [0.0]
    return Step(
        "Clip",
        attributes,
        tuple(parameters),
        axis=site.axis,
        positive=halved,
        shiftless=halved,
        uniform=any(finite),
    )


def prelu(site: Site) -> Step:
    shape = [1] * (site.rank - 1)
    if site.axis and site.dice.chance(0.7):
        shape[site.axis - 1] = site.channels
    slope = site.dice.numbers(shape)
    return Step("PRelu", {}, (slope,), axis=site.axis, positive=True, shiftless=True)


def _arm(site: Site) -> Shape:
    """The shape of another branch, which may be broadcast along other axes than the channels."""
    return tuple(
        1 if axis != site.axis and site.dice.chance(0.2) else size
        for axis, size in enumerate(site.shape)
    )


def _is_wide(site: Site) -> bool:
    """Whether a constant of the whole shape varies along several axes, and so is no affine."""
    return sum(size > 1 for size in site.shape) > 1


def _sum(op_type: str) -> Callable[[Site], Step]:
    def strategy(site: Site) -> Step:
        if op_type != "Sum" and _is_wide(site) and site.dice.chance(0.3):
            return Step(op_type, parameters=(site.dice.numbers(site.shape),), axis=site.axis)
        return Step(op_type, more=(_arm(site),), axis=site.axis, one_arm=True)

    return strategy


def product(site: Site) -> Step:
    if _is_wide(site) and site.dice.chance(0.3):
        parameters = (site.dice.numbers(site.shape),)
        return Step("Mul", parameters=parameters, axis=site.axis, shiftless=True)
    return Step("Mul", more=(_arm(site),), axis=site.axis, shiftless=True)


def matrix_product(site: Site) -> Step:
    """The channels are rows: not the axis that is summed over."""
    site.need(site.axis < site.rank - 1)
    weight = site.dice.numbers([site.shape[-1], site.dice.integer(1, 4)])
    return Step("MatMul", parameters=(weight,), axis=site.axis, shiftless=True)


STRATEGIES: Mapping[str, Callable[[Site], Step]] = {
    "Identity": identity,
    "MatMul": matrix_product,
    "Dropout": dropout,
    "Cast": lambda site: Step("Cast", {"to": 11}, axis=site.axis),
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "MaxPool": max_pool,
    "GlobalMaxPool": global_max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "LpPool": lp_pool,
    "GlobalLpPool": global_lp_pool,
    "ReduceMean": _reduction("ReduceMean", since=18),
    "ReduceSum": _reduction("ReduceSum", since=13),
    "ReduceMax": _reduction("ReduceMax", since=18, positive=True),
    "ReduceMin": _reduction("ReduceMin", since=18, positive=True),
    "ReduceL1": _reduction("ReduceL1", since=18, positive=True, shiftless=True),
    "ReduceL2": _reduction("ReduceL2", since=18, positive=True, shiftless=True),
    "Resize": resize,
    "Upsample": upsample,
    "Relu": relu,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Abs": abs_,
    "Clip": clip,
    "Add": _sum("Add"),
    "Sub": _sum("Sub"),
    "Sum": _sum("Sum"),
    "Mul": product,
}
