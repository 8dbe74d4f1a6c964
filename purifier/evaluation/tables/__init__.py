"""The paper's Tables 1 to 3, paired comparisons and the leaderboard."""
