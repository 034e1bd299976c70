"""Where the work of a tournament is done: forks, the contender that trains them, pools of contenders."""
