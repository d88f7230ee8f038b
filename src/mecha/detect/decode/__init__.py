"""From a detector's output tensors to candidate boxes: one module a family, found through `registry`."""
