"""Access to the machine: files, memory, devices, signals and the terminal."""
