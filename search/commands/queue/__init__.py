"""`structnet queue`: experiments by priority, in a store that survives whoever runs them."""

from search.command import Command, Group

COMMAND = Group(
    "queue",
    "Experiments by priority, run one after the other or side by side.",
    (
        Command(
            "add",
            "Add a command to the queue: `structnet queue add --priority 5 -- grow --dataset mnist --name first`.",
            "search.commands.queue.command:AddOptions",
            "search.commands.queue.run:add",
            # What follows the first word of the command to be added is its own, with or without a `--` before it.
            settings={"allow_interspersed_args": False},
        ),
        Command(
            "list",
            "All entries, the most important first.",
            "search.commands.queue.command:ListOptions",
            "search.commands.queue.run:list_entries",
        ),
        Command(
            "run",
            "Run the queue, the most important entries first; what does not fit yet may be overtaken by what does.\n\n"
            "Each entry is a process that writes to RESULTS/queue/ID.log. Ctrl-C stops what runs, to be resumed by the "
            "next run. Exit code 1 if an entry failed.",
            "search.commands.queue.command:RunOptions",
            "search.commands.queue.run:run",
        ),
        Command(
            "cancel",
            "Take an entry out of the queue; if it runs, it is stopped first.",
            "search.commands.queue.command:EntryOptions",
            "search.commands.queue.run:cancel",
        ),
        Command(
            "retry",
            "Let an entry that failed or was cancelled wait again; it goes on from where it stopped.",
            "search.commands.queue.command:EntryOptions",
            "search.commands.queue.run:retry",
        ),
        Command(
            "pause",
            "Start nothing new until `queue resume`; or hold one entry back, which is stopped first if it runs.",
            "search.commands.queue.command:QueueOptions",
            "search.commands.queue.run:pause",
        ),
        Command(
            "resume",
            "Undo `queue pause`.",
            "search.commands.queue.command:QueueOptions",
            "search.commands.queue.run:resume",
        ),
    ),
)
