"""What is written: files that are whole or not there, tables, snapshots."""
