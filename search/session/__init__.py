"""What every command does around its work: the experiment, the console, progress and plots."""
