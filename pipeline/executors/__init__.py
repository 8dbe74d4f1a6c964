"""Executors: who makes the shards, be it this process, several, one of several machines, Ray or Slurm."""
