"""Nodes while they run: sources of frames, the bus, live configs, the hot-swapped detector and the supervisor."""
