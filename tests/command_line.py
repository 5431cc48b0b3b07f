"""Runs the command line inside the test's process."""

from click.testing import CliRunner

from migrax._cli import main


def run(*arguments, code: int | None = 0):
    """Its result, after a look at the exit code."""
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert code is None or done.exit_code == code, done.output
    return done
