"""The command line, and what runs on top of tournaments: searches on Ray Tune and Ray Train, studies, the queue."""
