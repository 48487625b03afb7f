"""``personaprobe completion``: completion scripts for shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from personaprobe.cli.terminal.console import print_line


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Save it in the folder from which the shell loads completions, for example:
      personaprobe completion bash > ~/.local/share/bash-completion/completions/personaprobe
      personaprobe completion zsh > "${fpath[1]}/_personaprobe"
      personaprobe completion fish > ~/.config/fish/completions/personaprobe.fish
    """
    from personaprobe.cli.main import cli

    completion_class = get_completion_class(shell)
    assert completion_class is not None, f"click completes {shell}"
    print_line(completion_class(cli, {}, "personaprobe", "_PERSONAPROBE_COMPLETE").source())
