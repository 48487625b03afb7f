"""Devices, dtypes and memory of the machine, and faster kernels that are verified before they are used."""
