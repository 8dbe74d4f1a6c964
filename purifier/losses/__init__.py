"""The training loss: its recipes, perceptual features, and the Random Combination Module."""
