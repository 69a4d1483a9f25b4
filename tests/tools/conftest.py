"""Calling a tool in this process."""

from types import ModuleType

import pytest
import tyro

from pretrain.run.stop import exit_status


@pytest.fixture
def run(capsys):
    """run(tool, *arguments) -> exit status, stdout and stderr of the tool's command line."""

    def call(tool: ModuleType, *arguments: object) -> tuple[int, str, str]:
        words = [str(argument) for argument in arguments]
        code = exit_status(lambda: tool.main(tyro.cli(tool.Arguments, args=words)))
        return code, *capsys.readouterr()

    return call
