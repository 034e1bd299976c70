"""Which attention heads a transformer can do without: by scores, little by little, or by a tournament."""

from search.commands.heads.command import COMMAND

__all__ = ["COMMAND"]
