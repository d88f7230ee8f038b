"""What `python -m mecha.arena.train` is made of. Needs PyTorch (extra `train`); nothing at run time imports it."""
