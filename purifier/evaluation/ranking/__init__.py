"""The leaderboard: what defences withstand, in RobustBench's fields."""
