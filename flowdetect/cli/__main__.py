"""Run the command line as ``python -m flowdetect.cli``."""

from flowdetect.cli import app

app(prog_name="flowdetect")
