"""What is measured of a network: information, diagnosis, and the statistics of comparisons."""
