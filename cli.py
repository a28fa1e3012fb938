"""Runs bnfold from a checkout: `python cli.py model.onnx` is `bnfold model.onnx`."""

from bnfold.command_line.main import main

if __name__ == "__main__":
    main()
