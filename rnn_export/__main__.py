"""``python -m rnn_export`` is the command ``rnn-export``."""

from rnn_export.cli import main

if __name__ == "__main__":
    main()
