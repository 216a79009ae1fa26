"""What touches the machine: files, memory, devices, signals and the terminal."""
