"""Who makes the shards: this process, several, one of several machines, Ray or Slurm."""
