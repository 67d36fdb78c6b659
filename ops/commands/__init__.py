"""The commands of `python -m ops`, one file each. They read settings, call one function, and print."""
