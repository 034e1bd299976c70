"""`structnet import`: a plain PyTorch network becomes a StructNet."""

from search.command import Command

COMMAND = Command(
    "import",
    "A plain PyTorch network becomes one of ours, of the same logits: dense, or pruned to a size. Runs your module.",
    "search.commands.importing.command:ImportOptions",
    "search.commands.importing.run:run",
)
