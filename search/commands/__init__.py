"""What `--help` shows of every command: names, options and their texts. The code is imported when it runs."""
