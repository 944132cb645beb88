"""The console of the commands' tables: what a name holds is shown, never obeyed as markup, emoji or escape sequence."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from ceph.data.names import shown
from ceph.files import discard


class PlainConsole(Console):
    """A rich console for texts in which names of strangers stand; style is given by `style`, never in a text."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def on_broken_pipe(self) -> None:
        """Whoever read this has had enough (`ceph run ... | head`): what is done goes on, and prints no more."""
        self.quiet = True
        discard(1)

    def render_str(self, text: str, **settings: Any) -> Text:
        """As the base does, with `text` as `shown`."""
        return super().render_str(shown(text, keep="\n\t"), **settings)
