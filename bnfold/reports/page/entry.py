"""One entry of a report file as the page shows it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import PurePath

from bnfold.frozen import frozen
from bnfold.reasons import Reason
from bnfold.reports.network import Network
from bnfold.reports.page.chosen import chosen
from bnfold.reports.page.layout import is_available
from bnfold.reports.page.numbers import Data, relative
from bnfold.reports.page.outcome import outcome
from bnfold.reports.page.picture import Drawer, Picture
from bnfold.reports.page.scales import Plot, Ranges, Scale
from bnfold.rules.int8 import NOTABLE


@frozen
class Weight:
    """What a fold does to a weight.

    Attributes:
        data: What the report says.
        ranges: The plot of its channels.
    """

    data: Data
    ranges: Ranges

    def gain(self, scales: str) -> float | None:
        """Return by how much better int8 keeps it with scales `per_tensor` or `per_channel`, in dB.

        None where that makes no number.
        """
        before, after = self.data["before"], self.data["after"]
        if before is None or before[scales] is None or after[scales] is None:
            return None
        gain: float = after[scales] - before[scales]
        return gain

    def tone(self, scales: str) -> str:
        """Return the colour of the gain."""
        gain = self.gain(scales) or 0.0
        return "worse" if gain < -NOTABLE else "better" if gain > NOTABLE else ""


@frozen
class FoldRow:
    """A fold.

    Attributes:
        anchor: Its place on the page.
        data: What the report says.
        fraction: The fraction of its bound; None where that is unknown.
        weights: The weights that it changes, the one first that int8 keeps worst.
        picture: What is around it; None where that is not known.
    """

    anchor: str
    data: Data
    fraction: float | None
    weights: Sequence[Weight]
    picture: Picture | None


@frozen
class KeptRow:
    """What stayed.

    Attributes:
        anchor: Its place on the page.
        data: What the report says.
    """

    anchor: str
    data: Data


@frozen
class KeptGroup:
    """What stayed for the same reasons.

    Attributes:
        obstacles: Where each stands, and the reason.
        rows: What stayed.
    """

    obstacles: Sequence[tuple[str, Reason]]
    rows: Sequence[KeptRow]


class EntryView:
    """See the module.

    Args:
        data: What `to_dict` says.
        network: What is drawn; None where that is not known.
        number: Its place on the page, from 1 on.

    Attributes:
        title: The name of the model, or of both.
    """

    def __init__(self, data: Data, network: Network | None, number: int) -> None:
        self.data = data
        self.title = _title(data)
        self.anchor = f"model-{number}"
        self.versions: Data = data["versions"]
        self.verification: Data | None = data.get("verification")
        self.outcome = outcome(data)
        self._network = network
        drawn = network is not None and network.nodes and is_available()
        self._drawer = Drawer(network, self.anchor) if drawn and network is not None else None

    @property
    def files(self) -> list[tuple[str, Data]]:
        """The files, each with its part."""
        parts = ("source", "target", "original", "candidate")
        return [(part, self.data[part]) for part in parts if self.data.get(part)]

    def whole_size(self, part: str) -> int:
        """Return how large a file is that was read or written, with its data files, in bytes."""
        file = self.data[part]
        size: int = file["size"] + sum(beside["size"] for beside in file.get("data_files", ()))
        return size

    @property
    def options(self) -> list[tuple[str, str]]:
        """The options that are not as they are by default."""
        return chosen(self.data)

    @property
    def outputs(self) -> list[Data]:
        """All outputs on all providers."""
        providers = self.verification["providers"] if self.verification else []
        return [output for provider in providers for output in provider["outputs"]]

    @property
    def scale(self) -> Scale:
        """The scale of all outputs, so that they can be compared."""
        keys = ("difference", "noise", "allowance")
        return Scale.around(
            relative(output, key) for output in self.outputs if output["magnitude"] for key in keys
        )

    @property
    def layers(self) -> list[Data]:
        """The layers whose errors are known."""
        layers = self.verification["layers"] if self.verification else []
        return [layer for layer in layers if layer["magnitude"]]

    @property
    def plot(self) -> Plot | None:
        """The plot of the layers, where there are any to plot."""
        return Plot(self.layers) if len(self.layers) > 1 else None

    @property
    def worst(self) -> float | None:
        """The largest fraction of its bound that a fold takes."""
        probes = self.verification["probes"] if self.verification else []
        return max((p["fraction"] for p in probes if p["verdict"] == "held"), default=None)

    @property
    def picture(self) -> Picture | None:
        """The picture of the whole network, where it is known and can be laid out."""
        return self._drawer.whole() if self._drawer is not None else None

    @property
    def lacks_layout(self) -> bool:
        """Whether there is no picture because what lays it out is not installed."""
        return self._network is not None and not is_available()

    @cached_property
    def folds(self) -> list[FoldRow]:
        """The folds."""
        weights = list(self._weights)
        rows = []
        for index, fold in enumerate(self.data.get("folds", ())):
            into = {_key(node) for node in fold["into"]}
            rows.append(
                FoldRow(
                    f"{self.anchor}-fold-{index + 1}",
                    fold,
                    self._fraction(index),
                    [weight for weight in weights if _key(weight.data["node"]) in into],
                    self._drawer.around(index) if self._drawer is not None else None,
                )
            )
        return rows

    @property
    def _weights(self) -> Iterator[Weight]:
        """Yield the weights that change, the one first that folding spoils most."""
        made = [Weight(data, Ranges.of(data)) for data in self.data.get("weights") or ()]
        yield from sorted(made, key=lambda weight: weight.gain("per_tensor") or 0.0)

    def _fraction(self, index: int) -> float | None:
        """Return the fraction of its bound that a fold takes, together with those around it."""
        if self._network is None:
            return None
        region = self._network.folds[index].region
        if region is None:
            return None
        return self._fractions.get((_path(region.scope), region.outputs))

    @cached_property
    def _fractions(self) -> Mapping[object, float | None]:
        probes = self.verification["probes"] if self.verification else []
        return {
            (_path(p["scope"]), tuple(p["outputs"])): p["fraction"]
            for p in probes
            if p["verdict"] != "unchecked"
        }

    @cached_property
    def kept(self) -> list[KeptGroup]:
        """What stayed, grouped by the reasons, the largest group first."""
        groups: dict[tuple[tuple[str, Reason], ...], list[KeptRow]] = {}
        for number, kept in enumerate(self.data.get("kept", ()), 1):
            row = KeptRow(f"{self.anchor}-kept-{number}", kept)
            groups.setdefault(tuple(_obstacles(kept)), []).append(row)
        made = [KeptGroup(obstacles, rows) for obstacles, rows in groups.items()]
        return sorted(made, key=lambda group: -len(group.rows))

    @property
    def reasons(self) -> set[Reason]:
        """All reasons that are named."""
        return {reason for group in self.kept for _, reason in group.obstacles}


def _obstacles(kept: Data) -> Iterator[tuple[str, Reason]]:
    places = {
        "above": "before it" if kept["below"] else "why",
        "below": "behind it",
        "beside": "beside it",
    }
    for key, place in places.items():
        obstacle = kept.get(key)
        if obstacle and not (key == "beside" and obstacle == kept["above"]):
            yield place, Reason(obstacle["reason"])


def _path(scope: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(entry) for entry in scope)


def _key(node: Data) -> tuple[str, ...]:
    return node["op_type"], node["name"], node["output"], node["scope"]


def _title(data: Data) -> str:
    if "candidate" not in data:
        return _name(data["source"])
    files = data["candidate"], data["original"]
    names = {_name(file) for file in files}
    return " against ".join(_name(file) if len(names) > 1 else file["path"] for file in files)


def _name(file: Data) -> str:
    return "standard input" if file["path"] == "-" else PurePath(file["path"]).name
