"""The measurement after a build: does INT8 load, is it right, is it faster on this device."""
