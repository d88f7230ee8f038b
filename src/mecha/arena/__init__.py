"""The arena: synthetic scenes with ground truth, and the embedded model trained on them."""
