"""What `mecha doctor` looks at: the device, its system, the project, the network. It looks, and changes nothing."""
