"""The paper's figures, and learning curves: what is drawn of what was measured."""
