"""`python -m compressrl`."""

from compressrl.cli import main

main()
