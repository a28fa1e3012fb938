"""Proving one model from another, as tests do it."""

from pathlib import Path
from typing import Any

import onnx

from bnfold.region import Region
from bnfold.verification.proof.prove import Proof, prove


def proved(
    tmp_path: Path, old: onnx.ModelProto, new: onnx.ModelProto, regions: list[Region] | None = None
) -> Proof:
    paths = []
    for name, model in (("old", old), ("new", new)):
        paths.append(tmp_path / f"{name}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    return prove(paths[0], paths[1], regions or [], seed=0)


def clone(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def renamed(model: onnx.ModelProto, name: str, other: str) -> onnx.ModelProto:
    """Return a model in which a tensor has another name, in subgraphs, too."""
    model = clone(model)
    graphs = [model.graph]
    for graph in graphs:
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [other if n == name else n for n in names]
            graphs += [a.g for a in node.attribute if a.HasField("g")]
        for value in graph.output:
            value.name = other if value.name == name else value.name
    return model


class NoProvider:
    """Stands for the child process that runs models, on a machine that can run none."""

    def __init__(self, *_: object) -> None:
        pass

    def send(self, *_: object, **__: object) -> None:
        pass

    def answer(self) -> dict[str, Any]:
        return {"providers": [], "fed": []}

    def close(self) -> None:
        pass
