"""Defences that add noise and let a diffusion model take it off again."""
