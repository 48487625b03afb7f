"""What the machine can do: devices, dtypes, memory, and faster kernels that are verified before they are used."""
