"""What is compiled: the steps of small sparse networks on a CPU, as loops over plain arrays."""
