"""Reports as one HTML page that needs nothing but itself; takes the extra `bnfold[html]`.

What is written is what `to_dict` says; this package adds the positions of marks on scales, and the
picture of the network. Every name comes from somebody's model, so everything is escaped.
"""

from collections import Counter
from collections.abc import Sequence

from bnfold.errors import RequestError
from bnfold.reasons import Reason
from bnfold.remedies import EXPLANATIONS
from bnfold.reports.network import Network
from bnfold.reports.page.entry import EntryView
from bnfold.reports.page.numbers import (
    Data,
    breakable,
    claim,
    decibels,
    exact,
    power,
    relative,
    scientific,
    short,
    with_code,
)
from bnfold.units import byte_size, counted


def require_jinja() -> None:
    """Make sure that a page can be rendered.

    Raises:
        RequestError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise RequestError(
            "an HTML report needs Jinja: pip install 'bnfold[html]', or write a .json report"
        ) from error
    del jinja2


def render(entries: Sequence[Data], networks: Sequence[Network | None] = ()) -> str:
    """Return the page about one model or several.

    Args:
        entries: What the `to_dict` of a report, a comparison or a failure gave.
        networks: What is drawn of each; nothing where no pictures are wanted.

    Raises:
        RequestError: Jinja is not installed.
    """
    require_jinja()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bnfold.reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "scientific": scientific,
        "size": byte_size,
        "short": short,
        "decibels": decibels,
        "exact": exact,
        "name": breakable,
        "with_code": with_code,
    }
    environment.globals |= {
        "relative": relative,
        "power": power,
        "counted": counted,
        "claim": claim,
    }
    drawn = list(networks) or [None] * len(entries)
    models = [
        EntryView(entry, network, number)
        for number, (entry, network) in enumerate(zip(entries, drawn, strict=True), 1)
    ]
    _tell_apart(models)
    named = {reason for model in models for reason in model.reasons}
    remedies = [(reason, EXPLANATIONS[reason]) for reason in Reason if reason in named]
    return environment.get_template("page.html").render(models=models, remedies=remedies)


def _tell_apart(models: Sequence[EntryView]) -> None:
    """Call models of the same name, from several folders, by their paths."""
    names = Counter(model.title for model in models)
    for model in models:
        if names[model.title] > 1 and "source" in model.data:
            model.title = model.data["source"]["path"]
