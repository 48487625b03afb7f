"""``python -m personaprobe``, which ``torchrun`` and ``accelerate launch`` start."""

from personaprobe.cli.main import main

if __name__ == "__main__":
    main()
