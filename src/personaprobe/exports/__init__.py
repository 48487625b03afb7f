"""Exports: files by which other tools apply a finding. :func:`personaprobe.export_control_vector` is the public way in."""
