"""How values show themselves where somebody works with them: one line, or a small table."""

from collections.abc import Mapping

from bnfold.plain import Plain


class Shown(Plain):
    """A value that is shown as a line in a console, and as a small table in a notebook."""

    __slots__ = ()

    def told(self) -> Mapping[str, str]:
        """Return what is worth telling, by what it is."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Tell it in one line."""
        return f"<{type(self).__name__}: {'; '.join(f'{k} {v}' for k, v in self.told().items())}>"

    def _repr_html_(self) -> str:
        """Tell it as a table, as notebooks ask for."""
        from html import escape

        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(text)}</td></tr>"
            for name, text in self.told().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"
