"""The daemon: what keeps a device in the state that its catalog, lock and configs describe, and tells of it."""
