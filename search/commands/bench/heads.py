"""`structnet bench heads`: what removing heads saves against gating them, which computes all the same."""

from __future__ import annotations

import torch

from search.commands.bench.command import HeadsOptions
from search.commands.bench.measuring import (
    CPU,
    Pairs,
    Rows,
    check_repeats,
    row_of_pairs,
    time_pairs,
    write_rows,
)
from search.session.console import Console
from search.session.run import one_thread
from search.session.tables import table_of
from structnet.heads.scores import chosen, heads_to_remove
from structnet.heads.surgery import all_heads, remove, set_gates
from structnet.heads.transformer import Form, Transformer
from structnet.seeds import stream

FORMS = {
    "images, 4 layers of 4 heads, width 32": Form((1, 28, 28), 10, 4, 4, 32, 7),
    "images, 6 layers of 12 heads, width 192": Form((3, 32, 32), 10, 6, 12, 192, 4),
    "text, 6 layers of 12 heads, width 192": Form((128,), 96, 6, 12, 192),
}
LEVELS = (0.2, 0.5)
BATCH = 64
AGREE = 1e-4


def run(options: HeadsOptions) -> None:
    """Runs the command."""
    check_repeats(options.repeats)
    console = Console(asked=True)
    rows: Rows = []
    console.say(
        f"Inference of batches of {BATCH}, one thread: seconds with heads gated to 0 ÷ with heads removed, median of "
        f"{options.repeats} pairs."
    )
    table = table_of(["model"], [f"{level:.0%} of the heads" for level in LEVELS])
    with one_thread():
        for name, form in FORMS.items():
            found = [measure(form, level, options.repeats) for level in LEVELS]
            table.add_row(name, *(pairs.shown() for pairs in found))
            rows += [
                row_of_pairs("heads", f"{name}, {level:g}", pairs, "gated to 0", CPU)
                for level, pairs in zip(LEVELS, found)
            ]
    console.show(table)
    write_rows(options.results, "bench-heads", rows, console)


def measure(form: Form, level: float, repeats: int) -> Pairs:
    """Both models compute the same, which is checked."""
    gated, removed = Transformer(form).eval(), Transformer(form).eval()
    scores = dict(zip(all_heads(gated), stream(0, "bench heads").random(form.layers * form.heads).tolist()))
    heads = chosen(scores, heads_to_remove(gated, level), gated)
    set_gates(gated, heads, 0.0)
    remove(removed, heads)
    shape = (BATCH, *form.inputs)
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(shape, generator=draw)
    if form.is_text:
        inputs = torch.randint(form.outputs, shape, generator=draw)
    with torch.inference_mode():
        difference = float((gated.logits(inputs) - removed.logits(inputs)).abs().max())
        if difference > AGREE:
            raise RuntimeError(f"the two models differ by {difference:.2g}")
        return time_pairs(lambda: removed.logits(inputs), lambda: gated.logits(inputs), repeats, CPU)
